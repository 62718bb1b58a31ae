"""What a record shows for or against causes: each piece a row of the evidence table, in words.

Nothing is concluded here. A piece that could not be measured is left out, which is no evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gainstage.diagnose.from_faults import fault_evidence
from gainstage.diagnose.from_profiles import profile_evidence
from gainstage.diagnose.from_script import script_evidence
from gainstage.diagnose.from_steps import step_evidence
from gainstage.diagnose.weights import WEIGHTS
from gainstage.facts.record import RankRecord


@dataclass(frozen=True, slots=True)
class Piece:
    """One observation on the record."""

    name: str
    """Its row in the evidence table."""
    text: str
    """In words, with the numbers that a person can check."""


Said = tuple[str, str]

_SOURCES: tuple[Callable[[RankRecord], Iterator[Said]], ...] = (
    fault_evidence,
    profile_evidence,
    step_evidence,
    script_evidence,
)


def evidence_of(record: RankRecord) -> list[Piece]:
    """Return all evidence of a case, each row of the table at most once."""
    found: dict[str, Piece] = {}
    for source in _SOURCES:
        for name, text in source(record):
            assert name in WEIGHTS, f"the evidence table has no row {name!r}"
            found.setdefault(name, Piece(name, text))
    return list(found.values())
