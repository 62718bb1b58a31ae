"""`clip-value`: every entry of the gradients limited."""

from __future__ import annotations

from gainstage.treat.kind import TreatmentForm, TreatmentKind
from gainstage.treat.settings import Number
from gainstage.treat.treatment import Treatment


def _make(value: float) -> Treatment:
    from gainstage.treat.clip.treatments import ClipValue

    return ClipValue(value)


CLIP_VALUE = TreatmentKind(
    id="clip-value",
    settings=(Number("value", 1.0),),
    forms=(
        TreatmentForm(
            make=_make,
            acts="gradients",
            does="limits every entry; the direction is not kept",
            source="Mikolov 2012",
            costs="one write where an entry can be beyond",
        ),
    ),
    by_hand="before the optimizer's step, call "
    "torch.nn.utils.clip_grad_value_(model.parameters(), {value})",
)
