"""What `gainstage watch` shows of a run that grows: one frame of at most so many columns."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.text import Text

from gainstage.detect.series.forecast import forecast
from gainstage.detect.series.trend import headroom_bits
from gainstage.facts.blocks import StepBlock
from gainstage.facts.run_info import name_of_process, name_of_processes
from gainstage.facts.symptom import SEVERITIES
from gainstage.facts.tensor import TensorInfo
from gainstage.show.answers import norm_bits
from gainstage.show.sparkline import sparkline
from gainstage.show.terminal import safe, shortened
from gainstage.store.folder import was_killed
from gainstage.store.journal import read_lines
from gainstage.store.reader import load

LOOKED_AT = 512
"""Steps that a frame is made of."""
_NAME, _LABEL = 24, 10
_MODULES, _SEEN = 12, 3
_LOWEST_BITS = {"float16": -24.0}
_LOW_BITS = -32.0
"""Left end of a bar: gradients below are as good as none."""
_STALE_S = 5.0
_STYLE = {"critical": "bold red", "warning": "yellow", "info": "dim"}


@dataclass(frozen=True, slots=True)
class ModuleLevel:
    """The gradients of one module at the last step."""

    name: str
    bits: float
    """log2 of their norm; inf and NaN as they are."""
    limit_bits: float
    dtype: str

    @property
    def headroom_bits(self) -> float:
        """Return how many bits are left at least; below all others where there is inf or NaN."""
        return self.limit_bits - self.bits if self.bits < math.inf else -math.inf


@dataclass(frozen=True, slots=True)
class Frame:
    """A run at one moment: its last steps and what the training process has seen in them."""

    script: str
    tensors: Sequence[TensorInfo]
    block: StepBlock
    symptoms: Sequence[Mapping[str, Any]]
    """Lines of symptoms.jsonl, the last of each symptom, newest last."""
    ranks: int
    """Processes that train."""
    world_size: int | None
    ended: bool
    """By itself, or because it was killed."""
    killed: bool
    now: float

    @property
    def step(self) -> int:
        """Return the last step, -1 before the first."""
        return int(self.block.step[-1]) if len(self.block) else -1

    @property
    def state(self) -> str:
        """Return the worst severity seen, in capitals."""
        worst = {str(each.get("severity")) for each in self.symptoms}
        return "CRITICAL" if "critical" in worst else "WARNING" if "warning" in worst else "OK"

    @property
    def speed(self) -> float:
        """Return steps a second over the last ones, NaN where they do not tell."""
        took = float(self.block.time[-1] - self.block.time[0]) if len(self.block) > 1 else 0.0
        return (len(self.block) - 1) / took if took > 0 else math.nan


def read_frame(folder: Path, now: float | None = None) -> Frame:
    """Return the state of the run in a folder, of the first rank that has one.

    Raises:
        RunFolderError: If there is no run.
    """
    run = load(folder)
    killed = was_killed(run.info)
    rank = run.ranks[0] if run.ranks else 0
    lines, _ = read_lines(folder / "symptoms.jsonl")
    latest: dict[tuple[Any, Any], Mapping[str, Any]] = {}
    for line in lines:
        key = (line.get("symptom"), line.get("rank"))
        latest.pop(key, None)
        latest[key] = line
    return Frame(
        script=run.info.script,
        tensors=run.tensors(rank),
        block=run.last_steps(rank, LOOKED_AT),
        symptoms=tuple(latest.values()),
        ranks=len(run.ranks),
        world_size=run.info.world_size,
        ended=killed or run.info.ended is not None,
        killed=killed,
        now=time.time() if now is None else now,
    )


def frame_text(
    frame: Frame, *, width: int = 80, modules: int = _MODULES, ascii_only: bool = False
) -> Text:
    """Return a frame as text whose lines are at most `width` wide; nothing in it acts."""
    label = "|g|" if ascii_only else "‖g‖"
    lines = [_head(frame, width)]
    if len(frame.block):
        bits = norm_bits(frame.block).tolist()
        end = f"  {bits_text(bits[-1])}" if bits else "  no gradient"
        room = max(8, width - _LABEL - 2 - len(end))
        lines.append(_line(label, sparkline(bits, min(room, 64), ascii_only=ascii_only) + end))
        lines.append(_line("now", numbers_text(frame)))
        lines.append(_line("overflow", overflow_text(frame)))
        lines += _bars(frame, width, modules, ascii_only)
    else:
        lines.append(_line("now", "waiting for the first step"))
    lines += _seen(frame)
    for line in lines:
        line.truncate(width)
    return Text("\n").join(lines)


def numbers_text(frame: Frame) -> str:
    """Return loss, learning rate, clipping and speed of the last step."""
    block, parts = frame.block, [f"step {frame.step:,}"]
    if block.has_loss[-1]:
        parts.append(f"loss {block.loss[-1]:.4g}")
    if not math.isnan(block.lr[-1]):
        parts.append(f"lr {block.lr[-1]:.3g}")
    if block.clip_coefficient[-1] < 1:
        parts.append(f"clipped by {block.clip_coefficient[-1]:.2g}")
    if not math.isnan(frame.speed):
        parts.append(f"{frame.speed:.3g} steps/s")
    idle = frame.now - float(block.time[-1])
    if idle > max(_STALE_S, 3 / frame.speed if frame.speed > 0 else 0.0) and not frame.ended:
        parts.append(f"no step for {_seconds(idle)}")
    return "   ".join(parts)


def overflow_text(frame: Frame) -> str:
    """Return when the gradients meet their dtype's limit, if the detectors say that they will.

    The forecast is made again of the last steps, so that it is of now and not of the alarm.
    """
    forecasts = [each for each in frame.symptoms if each.get("symptom") == "overflow-forecast"]
    if not forecasts:
        return "none in sight"
    dtype = str((forecasts[-1].get("evidence") or {}).get("dtype", "float32"))
    bits, usable = _finite_bits(frame.block)
    limit = headroom_bits(1.0, dtype)
    seen = forecast(frame.block.step[usable].tolist(), bits.tolist(), limit)
    if seen is None or seen.step <= frame.step:
        return "growth has stopped" if len(bits) and usable[-1] else "reached"
    said = f"of {dtype} at step {seen.step:,.0f} ({seen.earliest:,.0f} to {seen.latest:,.0f})"
    if frame.speed > 0:
        said += f", in {_seconds((seen.step - frame.step) / frame.speed)}"
    return said


def levels_of(frame: Frame) -> list[ModuleLevel]:
    """Return the level of each module that had a gradient at the last step, in their order."""
    if not len(frame.block):
        return []
    norms = frame.block.grad_norms[-1].astype(np.float64)
    grouped: dict[str, list[int]] = {}
    for column, info in enumerate(frame.tensors):
        if column < len(norms) and frame.block.present[-1, column]:
            name = info.module if info.module else info.name
            grouped.setdefault(name, []).append(column)
    levels: list[ModuleLevel] = []
    for name, columns in grouped.items():
        dtypes = [frame.tensors[column].dtype for column in columns]
        dtype = min(dtypes, key=lambda each: headroom_bits(1.0, each))
        with np.errstate(divide="ignore"):
            bits = float(np.log2(np.sqrt(np.square(norms[columns]).sum())))
        levels.append(ModuleLevel(name, bits, headroom_bits(1.0, dtype), dtype))
    return levels


def bits_text(bits: float) -> str:
    """Return a level in bits; inf and NaN as what they are."""
    return f"{bits:+.1f} bits" if math.isfinite(bits) else f"{bits}"


def _head(frame: Frame, width: int) -> Text:
    names = name_of_processes(frame.ranks, frame.world_size)
    ranks = f"   {names}, the first shown" if frame.ranks > 1 else ""
    how = ", KILLED" if frame.killed else ", ENDED" if frame.ended else ""
    state = f"{frame.state}{how}"
    left = f" gainstage watch   {shortened(safe(frame.script), 24)}{ranks}"
    gap = " " * max(2, width - len(left) - len(state) - 1)
    style = _STYLE.get(frame.state.lower(), "green")
    return Text(left + gap).append(state, style)


def _bars(frame: Frame, width: int, modules: int, ascii_only: bool) -> list[Text]:
    levels = levels_of(frame)
    nearest = sorted(range(len(levels)), key=lambda i: levels[i].headroom_bits)[:modules]
    shown = [levels[index] for index in sorted(nearest)]
    said = [_level_text(each) for each in shown]
    room = width - 3 - _NAME - max((len(each) for each in said), default=0)
    lines: list[Text] = []
    for level, text in zip(shown, said, strict=True):
        style = "red" if level.headroom_bits < 8 else "yellow" if level.headroom_bits < 32 else ""
        name = shortened(safe(level.name), _NAME)
        line = Text(f" {name:<{_NAME}} ", "dim")
        lines.append(line.append(f"{bar(level, max(4, room), ascii_only)} ", style).append(text))
    more = len(levels) - len(shown)
    return [*lines, *([Text(f" + {more} modules further from the limit", "dim")] if more else [])]


def bar(level: ModuleLevel, width: int, ascii_only: bool = False) -> str:
    """Return a level as a bar whose end is the dtype's largest value: what is empty is headroom."""
    full, empty, nan, infinite = "#.x^" if ascii_only else "█·×∞"
    if not level.bits < math.inf:
        return (nan if math.isnan(level.bits) else infinite) * width
    low = _LOWEST_BITS.get(level.dtype, _LOW_BITS)
    share = (max(level.bits, low) - low) / (level.limit_bits - low)
    filled = min(width, max(0, round(share * width)))
    return full * filled + empty * (width - filled)


def _level_text(level: ModuleLevel) -> str:
    if not math.isfinite(level.bits):
        return "zero" if level.bits < 0 else bits_text(level.bits)
    return f"{bits_text(level.bits)}, {level.headroom_bits:.0f} left of {level.dtype}"


def _seen(frame: Frame) -> list[Text]:
    known = [each for each in frame.symptoms if each.get("severity") in SEVERITIES]
    if not known:
        return [_line("seen", "no symptom")]
    # The newest of the worst kind: what was told last may be a mere note.
    order = sorted(known, key=lambda each: SEVERITIES.index(each["severity"]), reverse=True)
    lines: list[Text] = []
    for number, each in enumerate(order[:_SEEN]):
        rank = each.get("rank")
        name = f"{name_of_process(rank, frame.world_size)}: " if rank else ""
        text = f"step {each.get('step')}: {name}{each.get('message')}"
        lines.append(_line("" if number else "seen", text, _STYLE[each["severity"]]))
    more = len(order) - len(lines)
    return [*lines, *([_line("", f"+ {more} more", "dim")] if more else [])]


def _line(label: str, text: str, style: str = "") -> Text:
    return Text(f" {label:<{_LABEL - 1}}", "dim").append(safe(text), style)


def _finite_bits(block: StepBlock) -> tuple[Any, Any]:
    """Return log2 of the norms that are positive and finite, and which steps these are."""
    usable = np.isfinite(block.grad_norm) & (block.grad_norm > 0)
    return np.log2(block.grad_norm[usable]), usable


def _seconds(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"
