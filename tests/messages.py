"""A run whose sentences are replaced by nonsense: what is decided must not change."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from gainstage.facts.findings import Findings
from gainstage.store.reader import load
from gainstage.store.seen import findings_so_far

NONSENSE = "hidden 0/0 of float16, half: log overflows bfloat16, inf - inf is NaN by a mask"
_SENTENCES = {"message", "domain", "text", "why", "note"}


def assert_messages_do_not_decide(folder: Path) -> None:
    """Check that a run is diagnosed alike with nonsense in place of all sentences."""
    plain, other = (folder.with_name(f"{folder.name}-{name}") for name in ("plain", "nonsense"))
    for copy in (plain, other):
        shutil.copytree(folder, copy)
        (copy / "findings.json").unlink(missing_ok=True)
    for path in (*other.glob("*.jsonl"), *other.glob("*.json")):
        _rewrite(path)
    before, after = load(plain), load(other)
    assert decided(after.findings) == decided(before.findings)
    assert decided(findings_so_far(after)) == decided(findings_so_far(before))


def decided(findings: Findings) -> tuple[object, ...]:
    """Return what findings decide: all of them but the sentences."""
    symptoms = [(s.symptom, s.severity, s.step) for s in findings.symptoms]
    known = findings.diagnosis
    if known is not None:
        known = replace(
            known,
            remedies=tuple(replace(each, why="") for each in known.remedies),
            evidence=tuple(replace(each, text="") for each in known.evidence),
        )
    return findings.steps, findings.verdict, symptoms, known


def _rewrite(path: Path) -> None:
    text = path.read_text()
    if path.suffix == ".json":
        path.write_text(json.dumps(_nonsense(json.loads(text))))
    else:
        lines = [json.dumps(_nonsense(json.loads(line))) for line in text.splitlines()]
        path.write_text("".join(f"{line}\n" for line in lines))


def _nonsense(value: Any) -> Any:
    match value:
        case dict():
            return {
                key: NONSENSE if key in _SENTENCES and isinstance(item, str) else _nonsense(item)
                for key, item in value.items()
            }
        case list():
            return [_nonsense(each) for each in value]
        case _:
            return value
