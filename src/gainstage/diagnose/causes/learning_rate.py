"""`learning-rate`: the learning rate is too high."""

from __future__ import annotations

from collections.abc import Sequence

from gainstage.diagnose.cause_kind import CauseKind
from gainstage.diagnose.place import observation_site
from gainstage.diagnose.remedies import WARM_UP, clip, slower
from gainstage.facts.diagnosis import CauseSite, Remedy
from gainstage.facts.observation import OptimizerStepped
from gainstage.facts.record import RankRecord


def place(record: RankRecord) -> CauseSite:
    """Return the line that steps the optimizer."""
    return observation_site("optimizer", record.first(OptimizerStepped))


def remedies(record: RankRecord) -> Sequence[Remedy]:
    """Return a lower rate, a clip, and a rate that begins low."""
    return [slower(record), clip(record), WARM_UP]


KIND = CauseKind(
    id="learning-rate",
    words="the learning rate is too high",
    signature="step 0 is healthy; updates are large against the weights, and the loss rises after "
    "them or after a jump of the rate",
    prior_bits=1.0,  # the most frequent cause, and the one that leaves no trace of its own
    weighs={
        "rate-jumped": 4.0,
        "input-usual-at-the-leap": 3.0,
        "update-large-against-weights": 2.5,
        "gradients-died": 2.5,
        "update-nonfinite": 2.0,
        "loss-rose-after-updates": 2.0,
        "stream-leapt": 1.5,
        "overflow": 1.0,
        "grew-before": 1.0,
        "depth-grows-later": 1.0,
        "levels-climb": 0.5,
        "only-the-loss-leapt": -0.5,
        "time-grows-later": -0.5,
        "loss-fell-below-zero": -0.5,
        "huge-at-first-step": -1.0,
        "time-grows-at-first-step": -1.0,
        "all-weights-grow-alike": -1.0,
        "accumulates-undivided": -1.0,
        "loss-is-a-sum": -1.0,
        "quiet-before": -1.5,
        "depth-grows-at-first-step": -1.5,
        "depth-fades-at-first-step": -1.5,
        "stream-grows-at-first-step": -1.5,
        "left-domain": -2.0,
        "singular-derivative": -2.0,
        "divided-by-norm": -2.0,
        "huge-data": -2.0,
        "bad-input": -2.0,
        "leapt-from-calm": -2.0,
        "state-climbs": -2.0,
        "weights-moved-beyond-updates": -2.0,
        "loss-falls-without-bound": -2.0,
    },
    place=place,
    remedies=remedies,
)
