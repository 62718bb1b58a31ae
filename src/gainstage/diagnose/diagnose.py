"""One diagnosis of a run: the cause, how sure it is, where, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gainstage.diagnose.cause_kind import CauseKind
from gainstage.diagnose.causes import CAUSE
from gainstage.diagnose.evidence.gather import evidence_of
from gainstage.diagnose.evidence.piece import Piece, numbers_of
from gainstage.diagnose.rank import rank
from gainstage.facts.diagnosis import Alternative, Diagnosis, Evidence
from gainstage.facts.findings import Verdict
from gainstage.facts.record import RankRecord

_ALTERNATIVES = 3


def diagnose(records: Sequence[RankRecord], verdict: Verdict) -> Diagnosis | None:
    """Return the diagnosis of a run.

    Args:
        records: The record of each process that trained.
        verdict: Of the run; nothing is wrong with a healthy one.

    Returns:
        None for a healthy run, and for one of which there is no evidence at all.
    """
    record = _most_telling(records)
    if verdict == "healthy" or record is None:
        return None
    evidence = evidence_of(record)
    if not evidence:
        return None
    best, *others = rank(each.id for each in evidence)
    kind = CAUSE[best.cause]
    site = kind.place(record)
    if len(records) > 1:
        site = replace(site, rank=record.rank)
    return Diagnosis(
        cause=best.cause,
        confidence=round(best.confidence, 3),
        alternatives=tuple(
            Alternative(each.cause, round(each.confidence, 3)) for each in others[:_ALTERNATIVES]
        ),
        first_alarm_step=_earliest([each.alarm_step for each in records]),
        failure_step=_earliest([each.failure_step for each in records]),
        site=site,
        remedies=tuple(kind.remedies(record)),
        evidence=_weighed(kind, evidence),
    )


def _most_telling(records: Sequence[RankRecord]) -> RankRecord | None:
    """Return the process whose record explains most: in which the first fault has a cause."""

    def order(record: RankRecord) -> tuple[int, bool, int]:
        fault = record.fault
        explained = fault is not None and fault.kind != "unknown"
        alarm = record.alarm_step
        never = 2**62
        return (
            fault.step if fault is not None else never,
            not explained,
            alarm if alarm is not None else never,
        )

    return min(records, key=order, default=None)


def _earliest(steps: Sequence[int | None]) -> int | None:
    return min((step for step in steps if step is not None), default=None)


def _weighed(cause: CauseKind, pieces: Sequence[Piece]) -> tuple[Evidence, ...]:
    """Return the evidence, what speaks for the cause first, with the bits it adds."""
    weighed = (
        Evidence(piece.id, cause.weighs.get(piece.id, 0.0), piece.text, numbers_of(piece))
        for piece in pieces
    )
    return tuple(sorted(weighed, key=lambda each: -each.bits))
