"""`raise-eps`: a least `eps` for the optimizer."""

from __future__ import annotations

from gainstage.treat.kind import TreatmentForm, TreatmentKind
from gainstage.treat.settings import Number
from gainstage.treat.treatment import Treatment


def _make(eps: float) -> Treatment:
    from gainstage.treat.optimizer.raise_eps import RaiseEps

    return RaiseEps(eps)


RAISE_EPS = TreatmentKind(
    id="raise-eps",
    settings=(Number("eps", 1e-8),),
    forms=(
        TreatmentForm(
            make=_make,
            acts="step",
            does="lets no parameter group's `eps` be smaller",
            without_optimizer="there is no eps to raise",
        ),
    ),
    by_hand="give the optimizer eps={eps}",
)
