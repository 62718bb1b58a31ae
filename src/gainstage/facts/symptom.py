"""One thing seen in the record."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")


@dataclass(frozen=True, slots=True)
class Symptom:
    """One thing seen in the record, said once and brought up to date while it lasts."""

    symptom: str
    """An id of docs/findings.md, such as `gradient-growth`."""
    severity: Severity
    step: int
    """The first step at which it was seen."""
    message: str
    """One sentence with the numbers in it."""
    evidence: dict[str, Any] = field(default_factory=dict[str, Any])
    """Numbers behind the message; always `last_step` and `count`. JSON types only."""

    def as_json(self) -> dict[str, Any]:
        """Return the symptom as the findings contract writes it."""
        return {
            "symptom": self.symptom,
            "severity": self.severity,
            "step": self.step,
            "message": self.message,
            "evidence": self.evidence,
        }


def first_alarm(symptoms: Iterable[Symptom]) -> int | None:
    """Return the first step with a symptom worse than a note."""
    return min((each.step for each in symptoms if each.severity != "info"), default=None)


def first_nonfinite(symptoms: Iterable[Symptom]) -> int | None:
    """Return the first step at which a loss, a gradient or an update was not finite."""
    return min((s.step for s in symptoms if s.symptom.endswith("nonfinite")), default=None)
