"""symptoms.jsonl: a line for each symptom that is new or has changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gainstage.detect.symptom_json import symptom_from_json
from gainstage.facts.codec import DecodeError
from gainstage.facts.symptom import Symptom
from gainstage.store.journal import read_facts

SYMPTOMS = "symptoms.jsonl"


def read_symptoms(folder: Path) -> tuple[tuple[tuple[int, Symptom], ...], tuple[str, ...]]:
    """Return rank and symptom of each line, in order, and what of the file cannot be read."""
    return read_facts(folder / SYMPTOMS, _line)


def _line(line: dict[str, Any]) -> tuple[int, Symptom]:
    rank = line.get("rank", 0)
    if not isinstance(rank, int) or rank < 0:
        raise DecodeError(f"rank must be a number from 0, got {rank!r}")
    return rank, symptom_from_json(line)
