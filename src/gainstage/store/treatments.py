"""treatments.jsonl: what treatments and guards did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gainstage.facts.codec import from_builtins
from gainstage.facts.treatment_event import GuardAction, TreatmentEvent, TreatmentState
from gainstage.store.journal import read_facts

TREATMENTS = "treatments.jsonl"


def read_treatments(folder: Path) -> tuple[tuple[TreatmentEvent, ...], tuple[str, ...]]:
    """Return what treatments and guards did, in order, and what of it cannot be read."""
    return read_facts(folder / TREATMENTS, _event)


def _event(line: dict[str, Any]) -> TreatmentEvent:
    is_state = line.get("event") in ("started", "ended")
    return from_builtins(line, TreatmentState if is_state else GuardAction)
