"""What a run's record says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gainstage.facts.diagnosis import Diagnosis
from gainstage.facts.ranges import Count
from gainstage.facts.symptom import Symptom, first_alarm, first_nonfinite

Verdict = Literal["healthy", "at-risk", "failed"]

FINDINGS_SCHEMA = "gainstage.findings/1"


@dataclass(frozen=True, slots=True)
class Findings:
    """What a run's record says: the contract `gainstage.findings/1`."""

    steps: Count
    """Optimizer steps recorded."""
    verdict: Verdict
    symptoms: tuple[Symptom, ...]
    diagnosis: Diagnosis | None = None
    """None for a healthy run, and where there is no evidence."""

    @property
    def alarm_step(self) -> int | None:
        """The first step with a symptom worse than a note, or a wrong operation."""
        known = self.diagnosis
        return first_alarm(self.symptoms) if known is None else known.first_alarm_step

    @property
    def failure_step(self) -> int | None:
        """The first step at which something was not finite."""
        known = self.diagnosis
        return first_nonfinite(self.symptoms) if known is None else known.failure_step
