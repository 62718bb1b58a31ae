"""Train the generated corpus and print rates: recall, false alarms, lead, premature alarms.

python -m benchmarks.corpus                      the test split, 304 cases, what docs may quote
python -m benchmarks.corpus --split dev --keep dev-corpus     to tune on; records are kept
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.corpus.families import FAULTY, HEALTHY, cases
from benchmarks.corpus.play import play_all
from benchmarks.corpus.score import Outcome, judge_all, wilson
from rich.console import Console
from rich.table import Table

from gainstage.diagnose.rank import rank

_CONFIDENCES = (0.0, 0.5, 0.7, 0.85, 0.95, 1.01)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpus", description=__doc__)
    parser.add_argument("--split", choices=["dev", "test"], default="test")
    parser.add_argument("--each", type=int, default=8, help="seeds a family")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, help="folder for the records; those there are reused")
    parser.add_argument("--misses", action="store_true", help="list what was judged wrongly")
    args = parser.parse_args()
    began = time.monotonic()
    chosen = cases(args.split, args.each)
    with tempfile.TemporaryDirectory(prefix="corpus-") as temporary:
        folder = args.keep or Path(temporary)
        play_all(chosen, folder, args.jobs)
        outcomes = judge_all(chosen, folder)
    console = Console(width=110)
    minutes = (time.monotonic() - began) / 60
    console.print(f"{args.split} split, {len(chosen)} cases, {minutes:.1f} min")
    console.print(_faulty_table(outcomes))
    console.print(_healthy_table(outcomes))
    console.print(_calibration_table(outcomes))
    console.print(_ablation_table(outcomes))
    console.print(_symptom_table(outcomes))
    if args.misses:
        for outcome in outcomes:
            if outcome.counts and outcome.faulty != outcome.alarmed:
                seen = [f"{s.symptom} {s.severity} {s.step}" for s in outcome.findings.symptoms]
                console.print(outcome.case.name, outcome.settings, seen)


def _faulty_table(outcomes: Sequence[Outcome]) -> Table:
    headings = ["fault", "cases", "harmed", "recall", "95%", "lead", "premature"]
    faulty = [each for each in outcomes if each.faulty]
    causes = any(each.findings.diagnosis for each in faulty)
    table = Table(*headings, *(["cause first", "95%"] if causes else []))
    for name in FAULTY:
        table.add_row(*_faulty_row(name, [e for e in faulty if e.case.family == name], causes))
    table.add_section()
    table.add_row(*_faulty_row("all", faulty, causes))
    return table


def _faulty_row(name: str, outcomes: Sequence[Outcome], causes: bool) -> list[str]:
    harmed = [each for each in outcomes if each.counts]
    leads = [each.lead for each in harmed if each.lead is not None]
    early = [e for e in harmed if e.alarm_step is not None and e.alarm_step < e.fault_step]
    row = [
        name,
        str(len(outcomes)),
        str(len(harmed)),
        *_rate(sum(each.alarmed for each in harmed), len(harmed)),
        f"{statistics.median(leads):g}" if leads else "-",
        str(len(early)),
    ]
    if causes:
        said = [each.cause == name for each in harmed]
        if name == "all":
            said = [e.cause == e.case.cause for e in harmed]
        row += _rate(sum(said), len(harmed))
    return row


def _healthy_table(outcomes: Sequence[Outcome]) -> Table:
    table = Table("healthy", "cases", "unharmed", "false alarms", "95%", "with a warning")
    healthy = [each for each in outcomes if not each.faulty]
    for name in HEALTHY:
        table.add_row(*_healthy_row(name, [e for e in healthy if e.case.family == name]))
    table.add_row(*_healthy_row("controls of the faults", [e for e in healthy if e.case.control]))
    table.add_section()
    table.add_row(*_healthy_row("all", healthy))
    return table


def _healthy_row(name: str, outcomes: Sequence[Outcome]) -> list[str]:
    counted = [each for each in outcomes if each.counts]
    warned = [each for each in counted if any(s.severity != "info" for s in each.findings.symptoms)]
    alarms = sum(each.alarmed for each in counted)
    return [
        name,
        str(len(outcomes)),
        str(len(counted)),
        *_rate(alarms, len(counted)),
        str(len(warned)),
    ]


def _calibration_table(outcomes: Sequence[Outcome]) -> Table:
    """How often a diagnosis of a given confidence is right."""
    table = Table("confidence", "diagnoses", "mean confidence", "right", "95%")
    diagnosed = [(e.findings.diagnosis, e.case.cause) for e in _harmed(outcomes) if e.diagnosed]
    for low, high in itertools.pairwise(_CONFIDENCES):
        within = [(said, true) for said, true in diagnosed if low <= said.confidence < high]
        right = sum(said.cause == true for said, true in within)
        mean = statistics.fmean(said.confidence for said, _ in within) if within else 0.0
        table.add_row(
            f"{low:.0%} to {min(high, 1):.0%}",
            str(len(within)),
            f"{mean:.1%}" if within else "-",
            *_rate(right, len(within)),
        )
    return table


def _ablation_table(outcomes: Sequence[Outcome]) -> Table:
    """What each line of evidence is worth: first causes that are right without it."""
    said = [each for each in _harmed(outcomes) if each.diagnosed]
    lines = sorted({name for each in said for name in each.evidence})
    whole = sum(rank(each.evidence)[0].cause == each.case.cause for each in said)
    table = Table("without the evidence", "seen in", "right", "change")
    table.add_row("(with all)", str(len(said)), str(whole), "")
    for line in lines:
        left = [[name for name in each.evidence if name != line] for each in said]
        pairs = zip(left, said, strict=True)
        right = sum(rank(names)[0].cause == each.case.cause for names, each in pairs)
        seen = sum(line in each.evidence for each in said)
        table.add_row(line, str(seen), str(right), f"{right - whole:+d}" if right != whole else "")
    return table


def _symptom_table(outcomes: Sequence[Outcome]) -> Table:
    """What each symptom is worth: how often it rang first, and how often nothing else rang."""
    table = Table("symptom", "rang", "first", "alone", "in healthy")
    rang = [(each, _worse_than_notes(each)) for each in outcomes if each.counts]
    names = sorted({name for _, steps in rang for name in steps})
    for name in names:
        sick = [steps for each, steps in rang if each.faulty and name in steps]
        table.add_row(
            name,
            str(len(sick)),
            str(sum(steps[name] == min(steps.values()) for steps in sick)),
            str(sum(len(steps) == 1 for steps in sick)),
            str(sum(not each.faulty and name in steps for each, steps in rang)),
        )
    return table


def _harmed(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [each for each in outcomes if each.faulty and each.counts]


def _worse_than_notes(outcome: Outcome) -> dict[str, int]:
    steps: dict[str, int] = {}
    for each in outcome.findings.symptoms:
        if each.severity != "info":
            steps[each.symptom] = min(each.step, steps.get(each.symptom, each.step))
    return steps


def _rate(hits: int, count: int) -> list[str]:
    low, high = wilson(hits, count)
    return [f"{hits / count:.1%}" if count else "-", f"{low:.1%} to {high:.1%}"]


if __name__ == "__main__":
    main()
