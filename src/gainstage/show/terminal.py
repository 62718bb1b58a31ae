"""The end-of-run summary: words first, numbers behind them, colour only as a second signal."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text

from gainstage.detect.trend import steepest_growth
from gainstage.records import Findings, StepBlock, Symptom, TensorInfo
from gainstage.show.sparkline import sparkline

if TYPE_CHECKING:
    from gainstage.store.reader import Run

WIDEST = 120
_LABEL = 8
_ALSO = 4
_GROWING = 3
_STYLE = {"healthy": "green", "at-risk": "yellow", "failed": "bold red"}


@dataclass(frozen=True, slots=True)
class Shown:
    """What the summary is made of: a run's record, already read."""

    info: Mapping[str, Any]
    tensors: Sequence[TensorInfo]
    block: StepBlock
    findings: Findings
    treatments: Sequence[Mapping[str, Any]] = ()
    folder: str | None = None
    ranks: int = 1


def print_summary(run: Run, findings: Findings, *, file: TextIO) -> None:
    """Print the summary of a run, as wide as the terminal but at most 120 columns."""
    worst = findings.symptoms[0].evidence.get("rank") if findings.symptoms else None
    rank = worst if worst is not None else (run.ranks[0] if run.ranks else 0)
    shown = Shown(
        run.info,
        run.tensors(rank),
        run.block(rank),
        findings,
        run.treatments,
        os.path.relpath(run.folder),
        len(run.ranks),
    )
    console = Console(file=file, highlight=False, markup=False, emoji=False, soft_wrap=True)
    encoding = getattr(file, "encoding", None) or "utf-8"
    plain = not encoding.lower().replace("-", "").startswith("utf")
    width = min(console.width, WIDEST) if console.is_terminal else 80
    text = summary(shown, width=width, ascii_only=plain)
    if plain:
        text = Text.assemble(text.plain.encode(encoding, "replace").decode(encoding))
    console.print(text)


def summary(shown: Shown, *, width: int = 80, ascii_only: bool = False) -> Text:
    """Return the summary as text whose lines are at most `width` wide.

    Two lines for a healthy run; for a sick one what was seen, since when, where it grows, and what
    to type next.
    """
    lines: list[Text] = [_header(shown, width)]
    if not len(shown.block):
        lines.append(_line("why", "no optimizer step and no backward call was seen", width))
        lines += _exit(shown, width)
        return Text("\n").join(lines)
    if shown.findings.verdict == "healthy":
        lines += [_line("note", _say(s), width) for s in shown.findings.symptoms[:_ALSO]]
        lines.append(_norms(shown, width, ascii_only))
        lines += [*_treated(shown, width), *_exit(shown, width)]
        return Text("\n").join(lines)
    lines += _sick(shown, width, ascii_only)
    return Text("\n").join(lines)


def safe(text: str) -> str:
    """Return text of a run's with control characters made visible, so that none acts."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _sick(shown: Shown, width: int, ascii_only: bool) -> list[Text]:
    symptoms = shown.findings.symptoms
    lines = [_line("what", _say(symptoms[0]), width, style="bold")]
    lines += _diagnosis(shown, width)
    lines += _line_when(shown, width)
    lines += [_line("also", _say(each), width) for each in symptoms[1 : 1 + _ALSO]]
    if len(symptoms) > 1 + _ALSO:
        lines.append(_line("", f"+ {len(symptoms) - 1 - _ALSO} more", width))
    lines.append(_norms(shown, width, ascii_only))
    lines += _growing(shown, width)
    lines += [*_clipped(shown, width), *_treated(shown, width), *_exit(shown, width)]
    lines += _next(shown, width)
    return lines


def _header(shown: Shown, width: int) -> Text:
    verdict = shown.findings.verdict
    said = {"healthy": "HEALTHY", "at-risk": "AT RISK", "failed": "FAILED"}[verdict]
    since = _failure_step(shown) if verdict == "failed" else _alarm_step(shown)
    if verdict != "healthy" and since is not None:
        said += f" {'at' if verdict == 'failed' else 'since'} step {since}"
    if not len(shown.block):
        said, verdict = "NOTHING SEEN", "at-risk"
    script = _shortened(safe(str(shown.info.get("script", "?"))), 28)
    ranks = f" on {shown.ranks} ranks" if shown.ranks > 1 else ""
    left = (
        f" gainstage   {script}   {_count(shown.findings.steps, 'step')}{ranks}{_duration(shown)}"
    )
    gap = max(2, width - len(left) - len(said) - 1)
    text = Text(left + " " * gap)
    return text.append(said, _STYLE[verdict])


def _duration(shown: Shown) -> str:
    times = shown.block.time
    if len(times) < 2:
        return ""
    seconds = float(times[-1] - times[0])
    if seconds < 60:
        return f" in {seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f" in {hours} h {minutes} min" if hours else f" in {minutes} min {rest} s"


def _line_when(shown: Shown, width: int) -> list[Text]:
    alarm, failure = _alarm_step(shown), _failure_step(shown)
    if alarm is None:
        return []
    if failure is None:
        return [_line("when", f"first sign at step {alarm}", width)]
    if failure > alarm:
        ahead = _count(failure - alarm, "step")
        said = f"first sign at step {alarm}, {ahead} before it failed at step {failure}"
        return [_line("when", said, width)]
    return [_line("when", f"at step {failure}, with no sign before it", width)]


def _alarm_step(shown: Shown) -> int | None:
    steps = [s.step for s in shown.findings.symptoms if s.severity != "info"]
    return min(steps, default=None)


def _failure_step(shown: Shown) -> int | None:
    fatal = [s.step for s in shown.findings.symptoms if s.symptom.endswith("nonfinite")]
    return min(fatal, default=None)


def _norms(shown: Shown, width: int, ascii_only: bool) -> Text:
    bits = _bits(shown.block)
    finite = bits[np.isfinite(bits)]
    if len(finite):
        ends = f"{finite.min():+.0f} {'..' if ascii_only else '…'} {finite.max():+.0f} bits"
    else:
        ends = "never finite" if len(bits) else "no gradients"
    label = "|g|" if ascii_only else "‖g‖"
    room = width - _LABEL - len(ends) - 4
    folder = f"   {shown.folder}" if shown.folder and shown.findings.verdict == "healthy" else ""
    if folder and room - len(folder) >= 16:
        room -= len(folder)
    else:
        folder = ""
    line = sparkline(bits.tolist(), max(8, min(room, 64)), ascii_only=ascii_only)
    return _line(label, f"{line}  {ends}{folder}", width)


def _bits(block: StepBlock) -> NDArray[np.float64]:
    """Return log2 of the global norm; inf where the norm is, NaN likewise, zeros left out."""
    there = block.present.any(axis=1) & (block.grad_norm != 0)
    return np.log2(block.grad_norm[there])


def _growing(shown: Shown, width: int) -> list[Text]:
    rows = steepest_growth(shown.block, shown.tensors, _GROWING)
    lines: list[Text] = []
    for number, (index, slope, headroom) in enumerate(row for row in rows if row[1] > 0):
        info = shown.tensors[index]
        said = f"{slope:+8.2f} bits a step, {headroom:5.0f} bits of {info.dtype} left"
        name = _shortened(safe(info.name), max(12, width - _LABEL - len(said) - 3))
        lines.append(
            _line("grows" if number == 0 else "", f"{name:<{min(32, len(name) + 8)}} {said}", width)
        )
    return lines


def _clipped(shown: Shown, width: int) -> list[Text]:
    coefficient = shown.block.clip_coefficient
    given = ~np.isnan(coefficient)
    if not given.any():
        return []
    active = coefficient[given] < 1.0
    share = float(active.mean())
    said = f"active on {share:.0%} of steps"
    if active.any():
        said += f", which it scaled by {float(np.median(coefficient[given][active])):.2g} (median)"
    return [_line("clip", said, width)]


def _treated(shown: Shown, width: int) -> list[Text]:
    latest = {str(each.get("treat")): each for each in shown.treatments}
    lines: list[Text] = []
    for spec, each in latest.items():
        touched = each.get("touched", 0)
        state = f"touched {_count(touched, 'step')}" if each.get("event") == "ended" else "running"
        lines.append(_line("treated", f"{safe(spec)}, {state}", width))
    return lines


def _exit(shown: Shown, width: int) -> list[Text]:
    exception = (shown.info.get("exit") or {}).get("exception")
    return [_line("exit", safe(str(exception)), width)] if exception else []


def _diagnosis(shown: Shown, width: int) -> list[Text]:
    diagnosis = shown.findings.diagnosis
    if not diagnosis:
        return []
    site = diagnosis.get("site") or {}
    lines = [
        _line("why", f"{diagnosis['cause']} (confidence {diagnosis['confidence']:.2f})", width)
    ]
    if site.get("file"):
        where = f"{site['file']}:{site.get('line')}   {site.get('module') or ''}"
        lines.append(_line("where", safe(where), width))
    for remedy in diagnosis.get("remedies", [])[:1]:
        lines.append(_line("fix", safe(f"{remedy['remedy']} {remedy['settings']}"), width))
    return lines


def _next(shown: Shown, width: int) -> list[Text]:
    commands: list[str] = []
    grows = any(
        symptom.symptom.startswith("gradient") and symptom.severity == "critical"
        for symptom in shown.findings.symptoms
    )
    argv = [str(each) for each in shown.info.get("argv") or []]
    if grows and argv and not shown.treatments:
        limit = _advised_limit(shown)
        script = shlex.join(argv)
        commands.append(f"gainstage run --treat clip-global-norm:max_norm={limit:.2g} {script}")
    if shown.folder:
        commands.append(f"gainstage report {shlex.quote(shown.folder)} --json")
    # A command is never cut: it is there to be copied.
    return [
        Text(f" {'next' if number == 0 else '':<{_LABEL}}{safe(command)}")
        for number, command in enumerate(commands)
    ]


def _advised_limit(shown: Shown) -> float:
    """Return the 90th percentile of the norms before the first sign (the tuning playbook).

    Where those are too few to tell, 1: what recurrent nets are clipped at.
    """
    alarm = _alarm_step(shown)
    healthy = shown.block.grad_norm[shown.block.step < (alarm if alarm is not None else 0)]
    healthy = healthy[np.isfinite(healthy)]
    return float(np.percentile(healthy, 90)) if len(healthy) >= 20 else 1.0


def _say(symptom: Symptom) -> str:
    times = symptom.evidence.get("count", 1)
    again = f" ({times} steps so far)" if times > 1 and symptom.severity != "info" else ""
    rank = symptom.evidence.get("rank")
    return f"{f'rank {rank}: ' if rank is not None else ''}{safe(symptom.message)}{again}"


def _line(label: str, said: str, width: int, *, style: str = "") -> Text:
    """Return a labelled line, wrapped to the width with the label's column kept free."""
    room = width - _LABEL - 1
    words, rows = said.split(" "), [""]
    for word in words:
        joined = f"{rows[-1]} {word}" if rows[-1] else word
        if len(joined) <= room or not rows[-1]:
            rows[-1] = joined if rows[-1] or word else " "
        else:
            rows.append(word)
    rows = [row[:room] for row in rows]
    text = Text(f" {label:<{_LABEL}}", "dim")
    text.append(rows[0], style)
    for row in rows[1:]:
        text.append(f"\n{' ' * (_LABEL + 1)}{row}", style)
    return text


def _shortened(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
