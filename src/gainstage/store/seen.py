"""What is known of a run without scanning its record again: what its own detectors have said."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gainstage.detect import scan
from gainstage.detect.symptom_json import symptom_from_json
from gainstage.diagnose.diagnose import diagnose
from gainstage.facts.diagnosis import Diagnosis
from gainstage.facts.findings import Findings, Verdict
from gainstage.facts.ranges import Count
from gainstage.facts.symptom import Symptom
from gainstage.store.journal import read_fact
from gainstage.store.symptoms import read_symptoms

if TYPE_CHECKING:
    from gainstage.store.reader import StoredRun


def findings_so_far(run: StoredRun) -> Findings:
    """Return the findings written as a run ended, else those of its symptoms.jsonl until now."""
    stored = stored_findings(run.folder) if run.info.ended else None
    if stored is not None:
        return stored
    by_rank = symptoms_so_far(run.folder)
    steps = max((_steps(run, rank) for rank in run.ranks), default=0)
    found = scan.together(by_rank, steps)
    if found.verdict == "healthy":
        return found
    seen = [replace(run.bare_record(r), symptoms=by_rank.get(r, ())) for r in run.ranks]
    return replace(found, diagnosis=diagnose(seen, found.verdict))


@dataclass(frozen=True, slots=True)
class _StoredFindings:
    """findings.json, its symptoms not decoded yet."""

    steps: Count
    verdict: Verdict
    symptoms: tuple[dict[str, Any], ...]
    diagnosis: Diagnosis | None


def stored_findings(folder: Path) -> Findings | None:
    """Return what findings.json says; None where there is none, or it is no findings."""
    stored, _ = read_fact(folder / "findings.json", _StoredFindings)
    if stored is None:
        return None
    symptoms: list[Symptom] = []
    for line in stored.symptoms:
        with contextlib.suppress(ValueError):  # the verdict over all of them stays
            symptoms.append(symptom_from_json(line))
    return Findings(stored.steps, stored.verdict, tuple(symptoms), stored.diagnosis)


def symptoms_so_far(folder: Path) -> dict[int, tuple[Symptom, ...]]:
    """Return by rank what symptoms.jsonl says, each symptom as it was last told."""
    found: dict[int, dict[str, Symptom]] = {}
    for rank, symptom in read_symptoms(folder)[0]:
        found.setdefault(rank, {})[symptom.symptom] = symptom
    return {rank: tuple(each.values()) for rank, each in found.items()}


def _steps(run: StoredRun, rank: int) -> int:
    steps = run.block(rank).step
    return int(steps[-1]) + 1 if len(steps) else 0
