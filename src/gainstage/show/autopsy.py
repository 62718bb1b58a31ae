"""The diagnosis and what the autopsy found, as the report shows them to who has twenty minutes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from gainstage.facts.codec import json_safe
from gainstage.facts.diagnosis import CauseSite
from gainstage.facts.fault import Fault, Site
from gainstage.facts.findings import Findings
from gainstage.facts.run_info import RunInfo
from gainstage.facts.treatment_event import TreatmentEvent
from gainstage.show.diagnosis import place_words
from gainstage.show.source import source_of
from gainstage.show.wording import cause_words, near_path, treat_text

if TYPE_CHECKING:
    from gainstage.store.reader import StoredRun

MOST_FAULTS = 3
MOST_CHAIN = 40
TRIALS = "trials.json"
_MOST_COLUMNS = 8
_MOST_TRIALS = 100
_MOST_DIFF = 20_000

Json = dict[str, Any]


def diagnosis_json(run: StoredRun, findings: Findings) -> Json | None:
    """Return the diagnosis in words, with its source lines; None where there is none."""
    diagnosis = findings.diagnosis
    if diagnosis is None:
        return None
    return {
        "cause": diagnosis.cause,
        "words": cause_words(diagnosis.cause),
        "confidence": diagnosis.confidence,
        "alternatives": [
            {
                "cause": alternative.cause,
                "confidence": alternative.confidence,
                "words": cause_words(alternative.cause),
            }
            for alternative in diagnosis.alternatives
        ],
        "evidence": json_safe(diagnosis.evidence),
        "module": diagnosis.site.module or None,
        "place": place_words(diagnosis.site),
        "source": _source(diagnosis.site, run.info),
        "remedies": [
            {"treat": treat_text(remedy), "remedy": remedy.remedy, "why": remedy.why}
            for remedy in diagnosis.remedies
        ],
    }


def faults_json(faults: Sequence[Fault], info: RunInfo) -> list[Json]:
    """Return the first faults with their chains and the values that the autopsy met."""
    return [
        {
            "step": fault.step,
            "kind": fault.kind,
            "phase": fault.phase,
            "message": fault.text,
            "place": place_words(
                CauseSite(
                    op=fault.site.op,
                    module=fault.site.module,
                    parameter=fault.parameter,
                    time_step=fault.time_step,
                    samples=fault.samples,
                )
            ),
            "chain": [_link(site, info) for site in fault.chain[:MOST_CHAIN]],
            "longer": max(0, len(fault.chain) - MOST_CHAIN),
            "values": [
                [name, _value_text(value)] for name, value in fault.evidence.as_json().items()
            ],
        }
        for fault in faults[:MOST_FAULTS]
    ]


def trials_json(run: StoredRun) -> Json | None:
    """Return what `prescribe` has tried, as a table of texts; None where it was not run.

    The file is another program's to write: whatever is in it, what can be shown is shown.
    """
    try:
        parsed: object = json.loads((run.folder / TRIALS).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(parsed, dict):
        return None
    record = cast("Json", parsed)
    baseline, best = record.get("baseline"), record.get("best")
    tried: object = record.get("trials")
    rows = [{"trial": "as it was", **baseline}] if isinstance(baseline, dict) else []
    if isinstance(tried, list):
        rows += [
            cast("Json", each) for each in cast("list[object]", tried) if isinstance(each, dict)
        ]
    rows = rows[:_MOST_TRIALS]
    columns = list(dict.fromkeys(str(key) for row in rows for key in row))[:_MOST_COLUMNS]
    return {
        "columns": columns,
        "rows": [[_value_text(row[key]) if key in row else "" for key in columns] for row in rows],
        "best": None if best is None else _value_text(best),
        "diff": str(record["diff"])[:_MOST_DIFF] if record.get("diff") else None,
    }


def treatments_json(treatments: Sequence[TreatmentEvent]) -> list[list[str]]:
    """Return what each treatment did last, as rows of texts."""
    latest = {each.treat: each for each in treatments}
    hidden = {"treat", "event", "time"}
    return [
        [
            spec,
            each.event,
            ", ".join(
                f"{k} {_value_text(v)}" for k, v in json_safe(each).items() if k not in hidden
            ),
        ]
        for spec, each in latest.items()
    ]


def _source(site: CauseSite, info: RunInfo) -> Json | None:
    excerpt = source_of(site.file, site.line, info)
    if excerpt is None or site.file is None:
        return None
    return {
        "file": near_path(site.file, info),
        "first": excerpt.first,
        "lines": list(excerpt.lines),
        "line": excerpt.line,
        "newer": excerpt.is_newer,
    }


def _link(site: Site, info: RunInfo) -> list[str]:
    """Return operation, module and place of one link of a chain."""
    place = "" if site.file is None else f"{near_path(site.file, info)}:{site.line}"
    return [site.op, site.module or "", place]


def _value_text(value: object) -> str:
    """Return a value of JSON as a person reads it."""
    match value:
        case float():
            return f"{value:.4g}"
        case bool() | None:
            return {True: "yes", False: "no", None: "–"}[value]
        case dict():
            pairs = cast("Json", value).items()
            return ", ".join(f"{key} {_value_text(each)}" for key, each in pairs)
        case list() | tuple():
            return ", ".join(_value_text(each) for each in cast("Sequence[object]", value))
        case _:
            return str(value)
