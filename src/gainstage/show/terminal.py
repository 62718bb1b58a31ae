"""The end-of-run summary: words first, numbers behind them, colour only as a second signal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

import numpy as np
from rich.console import Console
from rich.text import Text

from gainstage.facts.findings import Findings
from gainstage.show.answers import (
    Shown,
    answers,
    extent,
    growing,
    next_commands,
    norm_bits,
    shown_of,
    verdict_text,
)
from gainstage.show.sparkline import sparkline

if TYPE_CHECKING:
    from gainstage.store.reader import StoredRun

WIDEST = 120
_LABEL = 8
_STYLE = {"healthy": "green", "at-risk": "yellow", "failed": "bold red"}
_BEHIND = {"clip", "treated", "saved", "exit"}
"""Answers that stand below the pictures of the norm."""


def print_summary(run: StoredRun, findings: Findings, *, file: TextIO) -> None:
    """Print the summary of a run, as wide as the terminal but at most 120 columns."""
    print_shown(shown_of(run, findings), file=file)


def print_shown(shown: Shown, notes: Sequence[str] = (), *, file: TextIO) -> None:
    """Print the summary of a record, and notes on it below."""
    console = Console(file=file, highlight=False, markup=False, emoji=False, soft_wrap=True)
    plain = not is_utf(file)
    width = min(console.width, WIDEST) if console.is_terminal else 80
    text = summary(shown, width=width, ascii_only=plain)
    for number, note in enumerate(notes):
        text.append("\n").append(labelled("" if number else "seen", note, width))
    if plain:
        encoding = getattr(file, "encoding", None) or "ascii"
        text = Text(text.plain.encode(encoding, "replace").decode(encoding))
    console.print(text)


def is_utf(file: TextIO) -> bool:
    """Tell whether a stream takes every character."""
    encoding = getattr(file, "encoding", None) or "utf-8"
    return encoding.lower().replace("-", "").startswith("utf")


def summary(shown: Shown, *, width: int = 80, ascii_only: bool = False) -> Text:
    """Return the summary as text whose lines are at most `width` wide.

    Two lines for a healthy run; for a sick one what was seen, since when, where it grows, and what
    to type next.
    """
    said = answers(shown)
    lines = [_header(shown, width)]
    lines += [labelled(a.label, a.text, width, a.is_main) for a in said if a.label not in _BEHIND]
    if len(shown.block):
        lines.append(_norms(shown, width, ascii_only))
    is_sick = bool(len(shown.block)) and shown.findings.verdict != "healthy"
    if is_sick:
        lines += _growing(shown, width)
    lines += [labelled(a.label, a.text, width) for a in said if a.label in _BEHIND]
    if is_sick:
        # A command is never cut: it is there to be copied.
        for number, command in enumerate(next_commands(shown)):
            lines.append(Text(f" {'next' if number == 0 else '':<{_LABEL}}{safe(command)}"))
    return Text("\n").join(lines)


def safe(text: str) -> str:
    """Return text of a run's with control characters made visible, so that none acts."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def shortened(text: str, width: int) -> str:
    """Return a text of at most `width` characters, its middle left out.

    Example:
        >>> shortened("encoder.layers.0.weight", 11)
        'encod…eight'
    """
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def _header(shown: Shown, width: int) -> Text:
    verdict = verdict_text(shown)
    script = shortened(safe(shown.info.script), 28)
    left = f" gainstage   {script}   {extent(shown)}"
    gap = max(2, width - len(left) - len(verdict) - 1)
    style = _STYLE[shown.findings.verdict] if len(shown.block) else _STYLE["at-risk"]
    return Text(left + " " * gap).append(verdict, style)


def _norms(shown: Shown, width: int, ascii_only: bool) -> Text:
    bits = norm_bits(shown.block)
    finite = bits[np.isfinite(bits)]
    if len(finite):
        low, high = f"{finite.min():+.0f}", f"{finite.max():+.0f}"
        dots = ".." if ascii_only else "…"
        ends = f"{low} bits" if low == high else f"{low} {dots} {high} bits"
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
    return labelled(label, f"{line}  {ends}{folder}", width)


def _growing(shown: Shown, width: int) -> list[Text]:
    rows = growing(shown)
    said = [
        f"{row.slope_bits_per_step:+.2f} bits a step, {row.headroom_bits:.0f} left of {row.dtype}"
        for row in rows
    ]
    widest = max((len(each) for each in said), default=0)
    names = [shortened(safe(row.name), width - _LABEL - 4 - widest) for row in rows]
    pad = max((len(name) for name in names), default=0)
    return [
        labelled("grows" if i == 0 else "", f"{name:<{pad}}  {text:>{widest}}", width)
        for i, (name, text) in enumerate(zip(names, said, strict=True))
    ]


def labelled(label: str, said: str, width: int, is_main: bool = False) -> Text:
    """Return a labelled line, wrapped to the width with the label's column kept free."""
    room = width - _LABEL - 1
    words, rows = safe(said).split(" "), [""]
    for word in words:
        joined = f"{rows[-1]} {word}" if rows[-1] else word
        if len(joined) <= room or not rows[-1]:
            rows[-1] = joined if rows[-1] or word else " "
        else:
            rows.append(word)
    rows = [row[:room] for row in rows]
    style = "bold" if is_main else ""
    text = Text(f" {label:<{_LABEL}}", "dim")
    text.append(rows[0], style)
    for row in rows[1:]:
        text.append(f"\n{' ' * (_LABEL + 1)}{row}", style)
    return text
