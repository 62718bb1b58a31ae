"""A topic's page on the terminal: tables of 80 columns, bars and lines made of characters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TextIO

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from gainstage.lab.topic_page import Bars, Figure, Part, Table, TopicPage, bits, number
from gainstage.show.sparkline import sparkline
from gainstage.show.terminal import is_utf

WIDTH = 80
_BAR = 40
_LINE = 36


def print_topic_page(page: TopicPage, file: TextIO) -> None:
    """Print a topic's page, 80 columns wide; without colour where the stream is no terminal."""
    plain = not is_utf(file)
    console = Console(
        file=file, width=WIDTH, highlight=False, markup=False, emoji=False, safe_box=plain
    )
    with console.capture() as capture:
        console.print(Text(page.title, "bold"))
        for part in page.parts:
            console.print()
            for each in _drawn(part, plain):
                console.print(each)
        console.print()
    text = capture.get()
    if plain:
        encoding = getattr(file, "encoding", None) or "ascii"
        text = text.encode(encoding, "replace").decode(encoding)
    file.write("\n".join(line.rstrip() for line in text.split("\n")))


def _drawn(part: Part, plain: bool) -> Iterator[RenderableType]:
    match part:
        case str():
            yield Padding(Text(part), (0, 0, 0, 1))
        case Table():
            yield Text(f" {part.title}", "bold")
            yield _table(part, plain)
        case Bars():
            yield Text(f" {part.title}", "bold")
            yield from _bars(part, plain)
        case Figure():
            yield Text(f" {part.title}", "bold")
            yield from _lines(part, plain)
    note = "" if isinstance(part, str) else part.note
    if note:
        yield Padding(Text(note, "dim"), (0, 0, 0, 1))


def _table(part: Table, plain: bool) -> RichTable:
    table = RichTable(box=box.ASCII2 if plain else box.SIMPLE_HEAD, pad_edge=False)
    for column in part.columns:
        is_text = column == part.columns[0] or column.endswith(":")
        table.add_column(column.removesuffix(":"), justify="left" if is_text else "right")
    for row in part.rows:
        table.add_row(*row)
    return table


def _bars(part: Bars, plain: bool) -> Iterator[Text]:
    finite = [abs(value) for value in part.values if math.isfinite(value)]
    longest = max(finite, default=0.0)
    wide = max(map(len, part.labels), default=0)
    for label, value in zip(part.labels, part.values, strict=True):
        if not math.isfinite(value):
            yield Text(f"  {label:>{wide}}  {value}")
            continue
        length = round(_BAR * abs(value) / longest) if longest else 0
        mark = ("-" if plain else "░") if value < 0 else ("#" if plain else "█")
        yield Text(f"  {label:>{wide}}  {mark * length or '|'} {number(value, 4)} {part.unit}")


def _lines(part: Figure, plain: bool) -> Iterator[Text]:
    wide = max((len(line.name) for line in part.lines), default=0)
    for line in part.lines:
        finite = [value for value in line.y if math.isfinite(value)]
        drawn = sparkline(line.y, _LINE, ascii_only=plain)
        ends = f"{bits(min(finite))} .. {bits(max(finite))}" if finite else "none finite"
        yield Text(f"  {line.name:<{min(wide, 22)}}  {drawn}  {ends}", overflow="fold")
    for name, level in part.levels:
        yield Text(f"  {name}: {bits(level)}", "dim")
    first = [line.x for line in part.lines if line.x]
    if first:
        low, high = min(map(min, first)), max(map(max, first))
        yield Text(
            f"  {part.y_label} over {part.x_label} {number(low, 4)} to {number(high, 4)}", "dim"
        )
