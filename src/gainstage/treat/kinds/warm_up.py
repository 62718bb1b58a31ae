"""`warm-up`: a learning rate that rises over the first steps."""

from __future__ import annotations

from gainstage.treat.kind import TreatmentForm, TreatmentKind
from gainstage.treat.settings import Number
from gainstage.treat.treatment import Treatment


def _make(steps: float) -> Treatment:
    from gainstage.treat.optimizer.step_size import WarmUp

    return WarmUp(steps)


WARM_UP = TreatmentKind(
    id="warm-up",
    settings=(Number("steps", 100.0, whole=True),),
    forms=(
        TreatmentForm(
            make=_make,
            acts="step",
            does="raises the learning rate linearly to the script's own",
            source="Goyal 2017",
            without_optimizer="no learning rate is known",
        ),
    ),
    by_hand="raise the learning rate linearly over the first {steps:g} steps",
)
