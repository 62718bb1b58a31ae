"""One diagnosis of a run: the cause, how sure it is, where, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gainstage.diagnose.evidence import Evidence, evidence_of
from gainstage.diagnose.place import place_of_cause
from gainstage.diagnose.rank import rank
from gainstage.diagnose.remedies import remedies_for
from gainstage.diagnose.weights import WEIGHTS, Cause
from gainstage.facts.findings import Verdict
from gainstage.facts.record import RankRecord

_ALTERNATIVES = 3


def diagnose(records: Sequence[RankRecord], verdict: Verdict) -> dict[str, Any] | None:
    """Return the diagnosis of a run as the findings contract writes it.

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
    best, *others = rank(each.name for each in evidence)
    site = place_of_cause(best.cause, record)
    if len(records) > 1:
        site = {**site, "rank": record.rank}
    return {
        "cause": best.cause,
        "confidence": round(best.confidence, 3),
        "alternatives": [
            {"cause": each.cause, "confidence": round(each.confidence, 3)}
            for each in others[:_ALTERNATIVES]
        ],
        "first_alarm_step": _earliest([each.alarm_step for each in records]),
        "failure_step": _earliest([each.failure_step for each in records]),
        "site": site,
        "remedies": remedies_for(best.cause, record),
        "evidence": _lines(best.cause, evidence),
    }


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


def _lines(cause: Cause, evidence: Sequence[Evidence]) -> list[dict[str, Any]]:
    """Return the evidence, what speaks for the cause first, with the bits it adds."""
    lines = [
        {"evidence": each.name, "bits": WEIGHTS[each.name].get(cause, 0.0), "text": each.text}
        for each in evidence
    ]
    return sorted(lines, key=lambda line: -float(str(line["bits"])))
