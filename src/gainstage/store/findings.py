"""The findings of a run as `gainstage report --json` prints them."""

from __future__ import annotations

from typing import Any

from gainstage.detect.symptom_json import symptom_json
from gainstage.facts.codec import json_safe
from gainstage.facts.findings import FINDINGS_SCHEMA, Findings


def findings_json(findings: Findings) -> dict[str, Any]:
    """Return the object of the contract `gainstage.findings/1`."""
    return {
        "schema": FINDINGS_SCHEMA,
        "steps": findings.steps,
        "verdict": findings.verdict,
        "symptoms": [symptom_json(each) for each in findings.symptoms],
        "diagnosis": json_safe(findings.diagnosis),
    }
