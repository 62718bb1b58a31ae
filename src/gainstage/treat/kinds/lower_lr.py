"""`lower-lr`: a smaller learning rate, always or for a while after a spike."""

from __future__ import annotations

from gainstage.treat.kind import TreatmentForm, TreatmentKind
from gainstage.treat.settings import Number, When, Word
from gainstage.treat.treatment import Treatment

_AFTER_SPIKE = When(name="after", among=("spike",))
_NO_RATE = "no learning rate is known"


def _lower(factor: float) -> Treatment:
    from gainstage.treat.optimizer.step_size import LowerLr

    return LowerLr(factor)


def _cool_down(factor: float, z: float, **rest: float) -> Treatment:
    from gainstage.treat.optimizer.cool_down import CoolDown

    return CoolDown(factor, rest["for"], z)


LOWER_LR = TreatmentKind(
    id="lower-lr",
    settings=(
        Number("factor", 0.1, below=1.0),
        Word("after", "start", ("start", "spike")),
        Number("for", 50.0, whole=True, when=_AFTER_SPIKE),
        Number("z", 6.0, when=_AFTER_SPIKE),
    ),
    forms=(
        TreatmentForm(
            make=_lower,
            acts="step",
            does="multiplies the learning rate of every step; the script's schedule keeps its "
            "shape",
            without_optimizer=_NO_RATE,
        ),
        TreatmentForm(
            chosen_by={"after": "spike"},
            make=_cool_down,
            acts="step",
            does="the same for a step whose norm spikes (median + `z` MAD of log2 of the last 100) "
            "and those after it",
            without_optimizer=_NO_RATE,
        ),
    ),
    by_hand="multiply the learning rate by {factor}",
)
