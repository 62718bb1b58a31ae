"""What a run's record says, in words: the same answers head the terminal's summary and the report.

Each answer is a label of one word and one sentence. How wide they are and how they look is for
whoever shows them.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gainstage.detect.gradient.gradient_growth import NOTABLE_BITS
from gainstage.detect.level.overflow_evidence import OverflowForecastEvidence
from gainstage.detect.series.trend import steepest_growth
from gainstage.detect.symptom_json import message_of, site_of
from gainstage.diagnose.remedies import advised_limit
from gainstage.facts.blocks import StepBlock
from gainstage.facts.fault import Site
from gainstage.facts.findings import Findings
from gainstage.facts.run_info import RunInfo, name_of_process, name_of_processes
from gainstage.facts.symptom import Symptom
from gainstage.facts.tensor import TensorInfo
from gainstage.facts.treatment_event import TreatmentEvent, TreatmentState
from gainstage.show.diagnosis import (
    first_treatment,
    fix_lines,
    said_by_evidence,
    script_command,
    where_lines,
    why_lines,
)
from gainstage.store.blackbox import box_folders

if TYPE_CHECKING:
    from gainstage.store.reader import StoredRun

_ALSO = 3
_GROWING = 3
_GROWTH = {"gradient-growth", "gradient-norm", "overflow-forecast", "loss-divergence"}
"""Symptoms of which the tensors that grow are part."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the answers are made of: a run's record, already read."""

    info: RunInfo
    tensors: Sequence[TensorInfo]
    block: StepBlock
    findings: Findings
    treatments: Sequence[TreatmentEvent] = ()
    folder: str | None = None
    ranks: int = 1
    box_step: int | None = None
    """The step before which a black box was made, where one was."""
    sites: Sequence[Site] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """One line of a summary."""

    label: str
    text: str
    is_main: bool = False


@dataclass(frozen=True, slots=True)
class Growing:
    """A tensor whose gradient grows."""

    name: str
    dtype: str
    slope_bits_per_step: float
    headroom_bits: float
    """At least so many bits are left to the dtype's largest value."""


def shown_of(run: StoredRun, findings: Findings) -> Shown:
    """Return what is shown of a run: the rank with the worst symptom, else the first."""
    worst = findings.symptoms[0].rank if findings.symptoms else None
    rank = worst if worst is not None else (run.ranks[0] if run.ranks else 0)
    near = os.path.relpath(run.folder)
    return Shown(
        run.info,
        run.tensors(rank),
        run.block(rank),
        findings,
        run.treatments,
        str(run.folder.resolve()) if near.startswith("..") else near,
        len(run.ranks),
        next((step for step, _, _ in box_folders(run.folder)), None),
        run.sites(rank),
    )


def answers(shown: Shown) -> list[Answer]:
    """Return the answers in the order in which they matter; commands are not among them."""
    symptoms = shown.findings.symptoms
    if not len(shown.block):
        return [Answer("why", "no optimizer step and no backward call was seen"), *_exit(shown)]
    if shown.findings.verdict == "healthy":
        notes = [
            Answer("note", symptom_sentence(s, shown.info, shown.sites)) for s in symptoms[:_ALSO]
        ]
        return [*notes, *_treated(shown), *_exit(shown)]
    return [
        Answer("what", symptom_sentence(symptoms[0], shown.info, shown.sites), is_main=True),
        *_diagnosis(shown),
        *_also(shown),
        *_clipped(shown),
        *_treated(shown),
        *_saved(shown),
        *_exit(shown),
    ]


def verdict_text(shown: Shown) -> str:
    """Return the verdict in capitals, with the step since when it holds."""
    if not len(shown.block):
        return "NOTHING SEEN"
    verdict = shown.findings.verdict
    if verdict == "healthy":
        return "HEALTHY"
    findings = shown.findings
    since = findings.failure_step if verdict == "failed" else findings.alarm_step
    said, when = ("FAILED", "at") if verdict == "failed" else ("AT RISK", "since")
    return said if since is None else f"{said} {when} step {since:,}"


def extent(shown: Shown) -> str:
    """Return how long the run was, such as `412 steps in 3 min 12 s`."""
    names = name_of_processes(shown.ranks, shown.info.world_size)
    where = f" {'on' if names.endswith('ranks') else 'of'} {names}" if shown.ranks > 1 else ""
    said = f"{counted(shown.findings.steps, 'step')}{where}"
    times = shown.block.time
    if len(times) < 2 or not np.isfinite(times[[0, -1]]).all():
        return said
    seconds = float(times[-1] - times[0])
    if seconds < 60:
        return f"{said} in {seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{said} in {hours} h {minutes} min" if hours else f"{said} in {minutes} min {rest} s"


def growing(shown: Shown) -> list[Growing]:
    """Return the tensors whose gradients grow fastest at the end of a record of growth."""
    if not _GROWTH & {each.symptom for each in shown.findings.symptoms}:
        return []
    rows = steepest_growth(shown.block, shown.tensors, _GROWING)
    return [
        Growing(shown.tensors[index].name, shown.tensors[index].dtype, slope, headroom)
        for index, slope, headroom in rows
        if slope > 0
    ]


def treat_commands(shown: Shown) -> list[str]:
    """Return the command that tries remedies on the script; where no cause is known, clipping."""
    if shown.findings.verdict == "healthy" or shown.treatments:
        return []
    if shown.findings.diagnosis is not None:
        command = script_command("prescribe", shown.info)
    elif _has_grown(shown):
        limit = advised_limit(shown.block, shown.findings.alarm_step)
        treat = f"clip-global-norm:max_norm={limit:.2g}"
        command = script_command(f"run --treat {treat}", shown.info)
    else:
        command = None
    return [] if command is None else [command]


def fix_command(shown: Shown) -> str | None:
    """Return the command that runs the script with the first remedy not tried yet, if any."""
    diagnosis = shown.findings.diagnosis
    treat = None if diagnosis is None else first_treatment(diagnosis, _tried(shown))
    return None if treat is None else script_command(f"run --treat {treat}", shown.info)


def next_commands(shown: Shown) -> list[str]:
    """Return what to type next, ready to be copied."""
    commands = treat_commands(shown)
    if shown.folder:
        folder = shlex.quote(shown.folder)
        commands.append(f"gainstage report {folder} --open")
        if shown.box_step is not None:
            commands += [f"gainstage replay {folder}", f"gainstage rescue {folder}"]
    return commands


def norm_bits(block: StepBlock) -> NDArray[np.float64]:
    """Return log2 of the global norm of the steps that have one; inf and NaN stay, zeros do not."""
    there = block.present.any(axis=1) & (block.grad_norm != 0)
    return np.log2(block.grad_norm[there])


def symptom_sentence(symptom: Symptom, info: RunInfo, sites: Sequence[Site] = ()) -> str:
    """Return a symptom as a sentence: its process, its place, and for how many steps it lasts."""
    times = symptom.count
    again = f" (on {times:,} steps)" if times > 1 and symptom.severity != "info" else ""
    rank = symptom.rank
    place = _place(site_of(symptom), sites)
    name = "" if rank is None else f"{name_of_process(rank, info.world_size)}: "
    return f"{name}{message_of(symptom)}{place}{again}"


def _place(number: int | None, sites: Sequence[Site]) -> str:
    """Return in words the operation that a symptom's evidence has the number of."""
    if number is None or not 0 <= number < len(sites):
        return ""
    site = sites[number]
    inside = f" in {site.module}" if site.module else ""
    line = "" if site.line is None else f", line {site.line}"
    return f" [{site.op}{inside}{line}]"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    Example:
        >>> counted(1, "step"), counted(1200, "step")
        ('1 step', '1,200 steps')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _when(shown: Shown) -> list[Answer]:
    alarm, failure = shown.findings.alarm_step, shown.findings.failure_step
    if alarm is None:
        return []
    forecast = _forecast(shown)
    if failure is None:
        return [Answer("when", f"first sign at step {alarm:,}{forecast}")]
    if failure > alarm:
        ahead = counted(failure - alarm, "step")
        return [Answer("when", f"first sign at step {alarm:,}, {ahead} before it failed{forecast}")]
    return [Answer("when", f"at step {failure:,}, with no sign before it")]


def _forecast(shown: Shown) -> str:
    for symptom in shown.findings.symptoms:
        evidence = symptom.evidence
        if isinstance(evidence, OverflowForecastEvidence):
            low, high = evidence.earliest_step, evidence.latest_step
            return f"; overflow was forecast for step {low:,.0f} to {high:,.0f}"
    return ""


def _also(shown: Shown) -> list[Answer]:
    known = said_by_evidence(shown.findings.diagnosis)
    rest = [each for each in shown.findings.symptoms[1:] if each.symptom != known]
    lines = [symptom_sentence(each, shown.info, shown.sites) for each in rest[:_ALSO]]
    answers = [Answer("also" if i == 0 else "", line) for i, line in enumerate(lines)]
    more = len(rest) - _ALSO
    return [*answers, *([Answer("", f"+ {more} more")] if more > 0 else [])]


def _clipped(shown: Shown) -> list[Answer]:
    coefficient = shown.block.clip_coefficient
    measured = ~np.isnan(coefficient)
    if not measured.any():
        return []
    active = coefficient[measured] < 1.0
    said = f"active on {float(active.mean()):.0%} of steps"
    if active.any():
        said += (
            f", which it scaled by {float(np.median(coefficient[measured][active])):.2g} (median)"
        )
    return [Answer("clip", said)]


def _treated(shown: Shown) -> list[Answer]:
    latest = {each.treat: each for each in shown.treatments}
    lines: list[Answer] = []
    for spec, each in latest.items():
        state = "running"
        if isinstance(each, TreatmentState) and each.event == "ended":
            state = f"touched {counted(each.touched, 'step')}"
        lines.append(Answer("treated", f"{spec}, {state}"))
    return lines


def _saved(shown: Shown) -> list[Answer]:
    if shown.box_step is None:
        return []
    return [
        Answer("saved", f"weights, optimizer and RNG state from before step {shown.box_step:,}")
    ]


def _exit(shown: Shown) -> list[Answer]:
    if shown.info.exit is None:
        return []
    how = shown.info.exit.exception or shown.info.exit.killed
    # Of an error in many lines, such as a launcher's, the first says which it is.
    return [Answer("exit", how.strip().splitlines()[0])] if how and how.strip() else []


def _diagnosis(shown: Shown) -> list[Answer]:
    diagnosis = shown.findings.diagnosis
    if diagnosis is None:
        return _when(shown)
    return [
        *_labelled("why", why_lines(diagnosis)),
        *_labelled("where", where_lines(diagnosis, shown.info)),
        *_when(shown),
        *_labelled("fix", fix_lines(diagnosis, _tried(shown))),
    ]


def _tried(shown: Shown) -> list[str]:
    return [each.treat.split(":")[0] for each in shown.treatments]


def _labelled(label: str, lines: Sequence[str]) -> list[Answer]:
    return [Answer(label if i == 0 else "", line) for i, line in enumerate(lines)]


def _has_grown(shown: Shown) -> bool:
    """Tell whether clipping can help: gradients grew while finite. NaN clipped is NaN still."""
    bits = norm_bits(shown.block)
    finite = bits[np.isfinite(bits)]
    return bool(len(finite)) and float(np.ptp(finite)) >= NOTABLE_BITS
