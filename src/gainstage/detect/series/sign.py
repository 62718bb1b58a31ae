"""What a detector says of a run at a step, before the signs of all are weighed together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from gainstage.facts.symptom import Severity

Family = Literal["gradient", "loss", "weight", "depth", "time", "level"]


@dataclass(frozen=True, slots=True)
class Sign:
    """One detector's view. Signs of different families are independent of each other."""

    symptom: str
    family: Family
    severity: Severity
    step: int
    message: str
    strong: bool = False
    """Alone a warning; critical when a strong sign of another family stands beside it."""
    count: int = 1
    """Steps at which it was seen since the last time."""
    last_step: int = 0
    settles: frozenset[str] = frozenset()
    """Symptoms whose warnings since `step` this one explains as harmless: they become notes."""
    evidence: dict[str, Any] = field(default_factory=dict[str, Any])
