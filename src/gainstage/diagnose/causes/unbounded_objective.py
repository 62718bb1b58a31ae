"""`unbounded-objective`: the objective has no bound."""

from __future__ import annotations

from collections.abc import Sequence

from gainstage.diagnose.cause_kind import CauseKind
from gainstage.diagnose.place import loss_at_alarm, site_in
from gainstage.diagnose.remedies import slower
from gainstage.facts.diagnosis import CauseSite, Remedy
from gainstage.facts.record import RankRecord


def place(record: RankRecord) -> CauseSite:
    """Return where the loss is made; of several, the one that went wrong."""
    return site_in("loss", loss_at_alarm(record) or record.loss_site)


def remedies(record: RankRecord) -> Sequence[Remedy]:
    """Return a bound of the objective, and a lower rate."""
    bound = "bound the objective, such as by clamping weights"
    return [Remedy("code-change", why=bound), slower(record)]


KIND = CauseKind(
    id="unbounded-objective",
    words="the objective has no bound",
    signature="the loss falls without bound while weights or log-variances drift one way",
    weighs={
        "loss-falls-without-bound": 8.0,
        "loss-fell-below-zero": 3.5,
        "density-without-bound": 3.0,
        "loss-stays-bounded-below": -4.0,
    },
    place=place,
    remedies=remedies,
    is_lower_loss_better=False,
)
