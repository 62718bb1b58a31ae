"""One thing seen in the record."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")


@dataclass(frozen=True, slots=True)
class Symptom:
    """One thing seen in the record, reported once and brought up to date while it lasts."""

    symptom: str
    """An id of docs/detectors.md, such as `gradient-growth`."""
    severity: Severity
    step: int
    """The first step at which it was seen."""
    evidence: object
    """The numbers: of the class that the symptom's kind in `detect` names for it."""
    last_step: int
    """The last step at which it was seen."""
    count: int = 1
    """Steps at which it was seen."""
    recovered_step: int | None = None
    """Step at which it turned out to be harmless."""
    rank: int | None = None
    """The process that showed it, where several trained."""


def first_alarm(symptoms: Iterable[Symptom]) -> int | None:
    """Return the first step with a symptom worse than a note."""
    return min((each.step for each in symptoms if each.severity != "info"), default=None)


def first_nonfinite(symptoms: Iterable[Symptom]) -> int | None:
    """Return the first step at which a loss, a gradient or an update was not finite."""
    return min((s.step for s in symptoms if s.symptom.endswith("nonfinite")), default=None)
