"""`loss-reduction`: the loss is a sum where a mean is meant."""

from __future__ import annotations

from collections.abc import Sequence

from gainstage.diagnose.cause_kind import CauseKind
from gainstage.diagnose.place import site_in
from gainstage.diagnose.remedies import clip
from gainstage.facts.diagnosis import CauseSite, Remedy
from gainstage.facts.observation import LossMade
from gainstage.facts.record import RankRecord

_UNKNOWN_FACTOR = 0.01
"""Where it is not known how many elements are added up."""


def place(record: RankRecord) -> CauseSite:
    """Return where the loss is made."""
    return site_in("loss", record.loss_site)


def remedies(record: RankRecord) -> Sequence[Remedy]:
    """Return a clip, and the rate of the mean."""
    why = "the loss is a sum, not a mean"
    return [clip(record), Remedy("lower-lr", {"factor": _mean_factor(record)}, why)]


def _mean_factor(record: RankRecord) -> float:
    """Return what makes the gradient of a sum that of a mean."""
    loss = record.first(LossMade)
    summed = 1 if loss is None else loss.evidence.summed_elements
    return _UNKNOWN_FACTOR if summed < 2 else float(f"{1 / summed:.3g}")


KIND = CauseKind(
    id="loss-reduction",
    words="the loss is a sum where a mean is meant",
    signature="the loss is a sum over many elements, so that the gradient scales with the batch",
    weighs={
        "loss-is-a-sum": 6.0,
        "depth-grows-later": 1.0,
        "update-large-against-weights": 1.0,
        "loss-rose-after-updates": 1.0,
        "gradients-died": 1.0,
        "quiet-before": -2.0,
        "loss-is-a-mean": -6.0,
    },
    place=place,
    remedies=remedies,
)
