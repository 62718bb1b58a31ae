"""`gainstage watch`: follows a run's folder from another process, until the run ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from gainstage.show.answers import norm_bits
from gainstage.show.terminal import is_utf, safe
from gainstage.show.watch_frame import (
    Frame,
    bits_text,
    frame_text,
    levels_of,
    numbers_text,
    overflow_text,
    read_frame,
)
from gainstage.store.folder import was_killed
from gainstage.store.reader import load

PANEL_S, LINES_S = 1.0, 10.0
"""Seconds between two looks, in a terminal and where lines are printed."""
_AROUND_BARS = 10
"""Lines of a frame that are no module's."""


def follow(
    folder: Path,
    file: TextIO,
    *,
    once: bool = False,
    every_s: float | None = None,
    wait: Callable[[float], object] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Show a run as it grows, and return when it has ended.

    In a terminal the picture is drawn anew in place; elsewhere, or where NO_COLOR is set, each look
    that finds new steps prints a line.

    Args:
        folder: The run's folder.
        file: Where to.
        once: Print one frame and return.
        every_s: Seconds between two looks.
        wait: Called with these between looks, in place of waiting.
        environment: Where NO_COLOR may stand.

    Raises:
        RunFolderError: If there is no run.
    """
    console = Console(
        file=file, highlight=False, markup=False, emoji=False, soft_wrap=True, _environ=environment
    )
    wait = wait or threading.Event().wait
    is_plain = not console.is_terminal or bool(environment.get("NO_COLOR"))
    frame = read_frame(folder)
    if once:
        console.print(_drawn(frame, console, file))
        return
    if is_plain:
        frame = _print_lines(frame, folder, console, file, every_s or LINES_S, wait)
    else:
        with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
            live.update(_drawn(frame, console, file), refresh=True)
            while not frame.ended:
                wait(every_s or PANEL_S)
                frame = read_frame(folder)
                live.update(_drawn(frame, console, file), refresh=True)
    console.print(Text(_writable(_ending(folder), file)))


def _drawn(frame: Frame, console: Console, file: TextIO) -> Text:
    width = min(console.width, 120) if console.is_terminal else 80
    rows = max(1, console.height - _AROUND_BARS) if console.is_terminal else 12
    plain = not is_utf(file)
    text = frame_text(frame, width=width, modules=min(rows, 12), ascii_only=plain)
    return Text(_writable(text.plain, file)) if plain else text


def _writable(text: str, file: TextIO) -> str:
    """Return a text with what a stream's encoding lacks replaced."""
    encoding = getattr(file, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def _print_lines(
    frame: Frame,
    folder: Path,
    console: Console,
    file: TextIO,
    every_s: float,
    wait: Callable[[float], object],
) -> Frame:
    """Print a line for each look that finds new steps, and each symptom when it is new or worse."""
    shown = -2
    printed: set[tuple[str, str]] = set()
    while True:
        if frame.step != shown:
            console.print(Text(_writable(_as_line(frame), file)))
            shown = frame.step
        for symptom in frame.symptoms:
            key = (f"{symptom.get('rank')}/{symptom.get('symptom')}", str(symptom.get("severity")))
            if key not in printed:
                printed.add(key)
                text = f"{key[1]}: step {symptom.get('step')}: {symptom.get('message')}"
                console.print(Text(_writable(safe(text), file)))
        if frame.ended:
            return frame
        wait(every_s)
        frame = read_frame(folder)


def _as_line(frame: Frame) -> str:
    if not len(frame.block):
        return "waiting for the first step"
    levels = levels_of(frame)
    parts = [numbers_text(frame), f"|g| {bits_text(_last_bits(frame))}"]
    if levels:
        least = min(levels, key=lambda each: each.headroom_bits)
        parts.append(f"least headroom {safe(least.name)} {max(least.headroom_bits, 0):.0f} bits")
    overflow = overflow_text(frame)
    if overflow != "none in sight":
        parts.append(f"overflow {overflow}")
    return "   ".join([*parts, frame.state])


def _last_bits(frame: Frame) -> float:
    bits = norm_bits(frame.block)
    return float(bits[-1]) if len(bits) else float("-inf")


def _ending(folder: Path) -> str:
    """Return in one line how the run ended."""
    run = load(folder)
    exception = run.info.exception
    by = f" by {exception}" if exception else ""
    told_killed = run.info.exit is not None and run.info.exit.killed is not None
    how = "was killed" if told_killed or was_killed(run.info) else f"has ended{by}"
    findings = run.findings
    return safe(
        f"the run {how}: {findings.verdict} after {findings.steps:,} steps; "
        f"gainstage report {folder}"
    )
