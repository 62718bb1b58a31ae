"""All that a record shows for or against causes.

Nothing is concluded here. What could not be measured is left out, which is no evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gainstage.diagnose.evidence.faults import fault_evidence
from gainstage.diagnose.evidence.piece import Piece
from gainstage.diagnose.evidence.profiles import profile_evidence
from gainstage.diagnose.evidence.script import script_evidence
from gainstage.diagnose.evidence.steps import step_evidence
from gainstage.facts.record import RankRecord

_SOURCES: tuple[Callable[[RankRecord], Iterator[Piece]], ...] = (
    fault_evidence,
    profile_evidence,
    step_evidence,
    script_evidence,
)


def evidence_of(record: RankRecord) -> list[Piece]:
    """Return all evidence of a record, each kind at most once."""
    pieces: dict[str, Piece] = {}
    for source in _SOURCES:
        for piece in source(record):
            pieces.setdefault(piece.id, piece)
    return list(pieces.values())
