"""`normalization`: a normalization divides by almost nothing."""

from __future__ import annotations

from collections.abc import Sequence

from gainstage.diagnose.cause_kind import CauseKind
from gainstage.diagnose.place import growth_end, operation_site
from gainstage.diagnose.remedies import SKIP
from gainstage.facts.diagnosis import CauseSite, Remedy
from gainstage.facts.record import RankRecord


def place(record: RankRecord) -> CauseSite:
    """Return the operation that divides."""
    return operation_site(record) or growth_end(record)


def remedies(record: RankRecord) -> Sequence[Remedy]:
    """Return a bound of the spread, and a step without that batch."""
    return [Remedy("code-change", why="bound the spread from below, or use layer norm"), SKIP]


KIND = CauseKind(
    id="normalization",
    words="a normalization divides by almost nothing",
    signature="a variance or spread of 0 or nearly 0, a tiny eps, or statistics of fewer than 8 "
    "values",
    weighs={
        "divided-by-spread": 8.0,
        "in-normalization": 7.0,
        "divided-by-norm": 5.0,
        "bad-features": 5.0,
        "bad-input": 4.0,
        "raw-data-is-finite": 3.0,
        "batch-too-small-for-statistics": 3.0,
        "bad-samples": 2.0,
        "quiet-before": 0.5,
        "bad-elements": -2.0,
    },
    place=place,
    remedies=remedies,
    code_changes=("guard-operation",),
)
