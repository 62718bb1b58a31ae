"""What a record shows for or against causes, in words.

Nothing is concluded here. A piece that could not be measured is left out, which is no evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gainstage.diagnose.from_faults import fault_evidence
from gainstage.diagnose.from_profiles import profile_evidence
from gainstage.diagnose.from_script import script_evidence
from gainstage.diagnose.from_steps import step_evidence
from gainstage.facts.record import RankRecord


@dataclass(frozen=True, slots=True)
class Piece:
    """One observation on the record."""

    name: str
    """Its id, by which causes weigh it."""
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
    """Return all evidence of a record, each kind at most once."""
    found: dict[str, Piece] = {}
    for source in _SOURCES:
        for name, text in source(record):
            found.setdefault(name, Piece(name, text))
    return list(found.values())
