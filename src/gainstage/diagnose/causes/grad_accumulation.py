"""`grad-accumulation`: gradients of earlier steps are still there."""

from __future__ import annotations

from collections.abc import Sequence

from gainstage.diagnose.cause_kind import CauseKind
from gainstage.diagnose.place import observation_site
from gainstage.diagnose.remedies import clip
from gainstage.facts.diagnosis import CauseSite, Remedy
from gainstage.facts.observation import BackwardCalled, GradientsAccumulated, GradientsNotZeroed
from gainstage.facts.record import RankRecord


def place(record: RankRecord) -> CauseSite:
    """Return the line that calls backward."""
    return observation_site("backward", record.first(BackwardCalled))


def remedies(record: RankRecord) -> Sequence[Remedy]:
    """Return the call or the division that is missing, and a clip."""
    left = record.first(GradientsNotZeroed) is not None
    change = (
        "call zero_grad before backward"
        if left or record.first(GradientsAccumulated) is None
        else "divide each loss by the number of backward calls that add up for a step"
    )
    return [Remedy("code-change", why=change), clip(record)]


KIND = CauseKind(
    id="grad-accumulation",
    words="gradients of earlier steps are still there",
    signature="gradients are not zeroed before backward, or several backward calls add up for one "
    "step undivided",
    weighs={
        "gradients-not-zeroed": 10.0,
        "accumulates-undivided": 7.0,
        "overflow": 1.0,
        "depth-grows-later": 1.0,
        "grew-before": 0.5,
        "update-large-against-weights": 0.5,
        "quiet-before": -2.0,
        "leapt-from-calm": -2.0,
    },
    place=place,
    remedies=remedies,
    code_changes=("zero-grad",),
)
