"""`numeric-op`: an operation left its domain."""

from __future__ import annotations

from collections.abc import Sequence

from gainstage.diagnose.cause_kind import CauseKind
from gainstage.diagnose.code_change import domain_change
from gainstage.diagnose.place import growth_end, operation_site
from gainstage.diagnose.remedies import SKIP
from gainstage.facts.diagnosis import CauseSite, Remedy
from gainstage.facts.record import RankRecord


def place(record: RankRecord) -> CauseSite:
    """Return the operation."""
    return operation_site(record) or growth_end(record)


def remedies(record: RankRecord) -> Sequence[Remedy]:
    """Return a step without that batch, and what keeps the operation inside its domain."""
    return [SKIP, Remedy("code-change", why=domain_change(record.fault))]


KIND = CauseKind(
    id="numeric-op",
    words="an operation left its domain",
    signature="nothing grew before; one operation leaves its domain, or its derivative does, and "
    "float64 would not help",
    weighs={
        "singular-derivative": 7.0,
        "divided-by-norm": 7.0,
        "left-domain": 6.0,
        "hidden-nonfinite": 4.0,
        "state-is-not-finite": 4.0,
        "exp-overflow": 3.0,
        "bad-input": 2.0,
        "raw-data-is-finite": 2.0,
        "bad-constant": 2.0,
        "quiet-before": 1.5,
        "of-a-finite-loss": 1.0,
        "divided-by-spread": -1.0,
        "huge-data": -1.0,
        "grew-step-by-step": -1.0,
        "state-climbs": -1.0,
        "grew-before": -1.5,
        "half-overflow": -2.0,
    },
    place=place,
    remedies=remedies,
    code_changes=("guard-operation",),
)
