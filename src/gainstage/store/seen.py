"""What is known of a run without scanning its record again: what its own detectors have said."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gainstage.detect import scan
from gainstage.detect.symptom_json import symptom_from_json
from gainstage.diagnose.diagnose import diagnose
from gainstage.facts.diagnosis import Alternative, CauseSite, Diagnosis, Evidence, Remedy
from gainstage.facts.findings import Findings
from gainstage.facts.symptom import Symptom
from gainstage.store.journal import read_lines

if TYPE_CHECKING:
    from gainstage.store.reader import StoredRun

_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_VERDICTS = ("healthy", "at-risk", "failed")


def findings_so_far(run: StoredRun) -> Findings:
    """Return the findings written as a run ended, else those of its symptoms.jsonl until now."""
    stored = stored_findings(run.folder) if run.info.get("ended") else None
    if stored is not None:
        return stored
    by_rank = symptoms_so_far(run.folder)
    steps = max((_steps(run, rank) for rank in run.ranks), default=0)
    found = scan.together(by_rank, steps)
    if found.verdict == "healthy":
        return found
    seen = [replace(run.bare_record(r), symptoms=by_rank.get(r, ())) for r in run.ranks]
    return replace(found, diagnosis=diagnose(seen, found.verdict))


def stored_findings(folder: Path) -> Findings | None:
    """Return what findings.json says; None where there is none, or it is no findings."""
    try:
        told = json.loads((folder / "findings.json").read_bytes())
        if told["verdict"] not in _VERDICTS:
            return None
        symptoms = tuple(_symptom(each) for each in told["symptoms"])
        diagnosis = told["diagnosis"] and _diagnosis(_numbers(told["diagnosis"]))
        return Findings(int(told["steps"]), told["verdict"], symptoms, diagnosis)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def symptoms_so_far(folder: Path) -> dict[int, tuple[Symptom, ...]]:
    """Return by rank what symptoms.jsonl says, each symptom as it was last told."""
    found: dict[int, dict[str, Symptom]] = {}
    for line in read_lines(folder / "symptoms.jsonl")[0]:
        try:
            symptom, rank = _symptom(line), int(line.get("rank", 0))
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        found.setdefault(rank, {})[symptom.symptom] = symptom
    return {rank: tuple(each.values()) for rank, each in found.items()}


def _steps(run: StoredRun, rank: int) -> int:
    steps = run.block(rank).step
    return int(steps[-1]) + 1 if len(steps) else 0


def _symptom(line: Mapping[str, Any]) -> Symptom:
    return symptom_from_json(cast("dict[str, Any]", _numbers(dict(line))))


def _diagnosis(told: Mapping[str, Any]) -> Diagnosis:
    site = {**told["site"]}
    if site.get("samples") is not None:
        site["samples"] = tuple(int(each) for each in site["samples"])
    return Diagnosis(
        cause=str(told["cause"]),
        confidence=float(told["confidence"]),
        alternatives=tuple(
            Alternative(str(each["cause"]), float(each["confidence"]))
            for each in told["alternatives"]
        ),
        first_alarm_step=told["first_alarm_step"],
        failure_step=told["failure_step"],
        site=CauseSite(**site),
        remedies=tuple(
            Remedy(str(each["remedy"]), dict(each["settings"]), str(each["why"]))
            for each in told["remedies"]
        ),
        evidence=tuple(
            Evidence(str(each["evidence"]), float(each["bits"]), str(each["text"]))
            for each in told.get("evidence", ())
        ),
    )


def _numbers(value: Any) -> Any:
    """Return JSON with the strings that `json_safe` writes for NaN and inf as numbers again."""
    if isinstance(value, str):
        return _NOT_FINITE.get(value, value)
    if isinstance(value, list):
        return [_numbers(each) for each in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {key: _numbers(each) for key, each in cast("dict[str, Any]", value).items()}
    return value
