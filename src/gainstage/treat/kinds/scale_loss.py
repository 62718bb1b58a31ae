"""`scale-loss`: gradients scaled while they flow backward."""

from __future__ import annotations

from gainstage.treat.kind import TreatmentForm, TreatmentKind
from gainstage.treat.settings import Number
from gainstage.treat.treatment import Treatment


def _make(factor: float) -> Treatment:
    from gainstage.treat.optimizer.scale_loss import ScaleLoss

    return ScaleLoss(factor)


SCALE_LOSS = TreatmentKind(
    id="scale-loss",
    settings=(Number("factor", 1024.0),),
    forms=(
        TreatmentForm(
            make=_make,
            acts="backward",
            does="scales what flows backward, not what arrives",
            source="Micikevicius 2018",
            costs="two passes over the gradients, a walk of the graph",
        ),
    ),
    by_hand="multiply the loss by {factor} before backward, and divide the gradients by it",
    why_no_edit="backward calls and what follows them would have to be found, and a GradScaler "
    "does it better",
)
