"""A symptom as the findings contract writes it, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gainstage.facts.symptom import SEVERITIES, Symptom


def message_of(symptom: Symptom) -> str:
    """Return the sentence that a person reads."""
    return symptom.message


def symptom_json(symptom: Symptom) -> dict[str, Any]:
    """Return a symptom as symptoms.jsonl and findings.json hold it."""
    return {
        "symptom": symptom.symptom,
        "severity": symptom.severity,
        "step": symptom.step,
        "message": message_of(symptom),
        "evidence": symptom.evidence,
    }


def symptom_from_json(line: Mapping[str, Any]) -> Symptom:
    """Return the symptom that `symptom_json` has written.

    Raises:
        ValueError: If it is none.
    """
    try:
        if line["severity"] not in SEVERITIES:
            raise ValueError(f"no severity: {line['severity']!r}")
        evidence: dict[str, Any] = dict(line["evidence"])
        last = int(evidence.get("last_step", line["step"]))
        return Symptom(
            str(line["symptom"]),
            line["severity"],
            int(line["step"]),
            str(line["message"]),
            {**evidence, "last_step": last, "count": int(evidence.get("count", 1))},
        )
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"no symptom: {error!r}") from error
