"""What a query found: a table for people, CSV or JSON for programs."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# (PyArrow comes without types.)

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, TextIO

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gainstage.facts.codec import to_json
from gainstage.show.terminal import WIDEST, safe

MOST_ROWS = 40
"""That a table for people has."""
_LONGEST_WORD = 32
"""That is never broken."""
_FEWEST_LETTERS = 24
"""That a longer text has in a line."""


def print_table(result: pa.Table, *, file: TextIO) -> None:
    """Print the first rows of a table, as wide as the terminal; as records where it is too wide.

    Floats have six digits. Null is left blank; NaN and inf stand as what they are.
    """
    console = Console(file=file, highlight=False, markup=False, emoji=False)
    width = min(console.width, WIDEST) if console.is_terminal else 80
    console = Console(file=file, highlight=False, markup=False, emoji=False, width=width)
    names = [safe(name) for name in result.column_names]
    numeric = [_is_number(field.type) for field in result.schema]
    shown = result.slice(0, MOST_ROWS)
    kinds = [name == "time" for name in names]
    columns = [
        [_cell(value, is_time) for value in column.to_pylist()]
        for column, is_time in zip(shown.columns, kinds, strict=True)
    ]
    narrowest = [_narrowest(*each) for each in zip(names, columns, numeric, strict=True)]
    rows = list(zip(*columns, strict=True))
    gaps = [g for g in (2, 1) if sum(narrowest) + g * (len(names) - 1) <= width]
    if gaps:
        room = width - gaps[0] * (len(names) - 1)
        widths = _widths(
            narrowest, [_widest(*each) for each in zip(names, columns, strict=True)], room
        )
        console.print(_table(names, rows, numeric, widths, gaps[0]))
    else:
        _print_records(console, names, rows, width)
    left = result.num_rows - len(rows)
    more = f", {left} more by --csv or --json" if left else ""
    console.print(Text(f"{result.num_rows} row{'s' * (result.num_rows != 1)}{more}", "dim"))


def print_csv(result: pa.Table, *, file: TextIO) -> None:
    """Print a table as CSV: null is empty, NaN is `nan`, infinities `inf` and `-inf`."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(result.column_names)
    for row in _rows(result):
        writer.writerow([_whole_number(value) for value in row])


def print_json(result: pa.Table, *, file: TextIO) -> None:
    """Print a table as a list of objects; JSON has no NaN or inf, so they are strings."""
    names = _unique(result.column_names)
    file.write("[")
    for number, row in enumerate(_rows(result)):
        each = dict(zip(names, map(_whole_number, row), strict=True))
        file.write(f"{',' if number else ''}\n{to_json(each)}")
    file.write("\n]\n")


def _rows(result: pa.Table) -> Iterator[tuple[Any, ...]]:
    for batch in result.to_batches(max_chunksize=65536):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _whole_number(value: Any) -> Any:
    """Return sums of whole numbers, which DuckDB gives as decimals, as whole numbers."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


def _unique(names: Sequence[str]) -> list[str]:
    """Return names of which none comes twice, for an object would lose the first.

    Example:
        >>> _unique(["a", "a", "b"])
        ['a', 'a_1', 'b']
    """
    kept: list[str] = []
    for name in names:
        number, unique = 0, name
        while unique in kept:
            number += 1
            unique = f"{name}_{number}"
        kept.append(unique)
    return kept


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _cell(value: Any, is_time: bool) -> str:
    value = _whole_number(value)
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}" if is_time else f"{value:.6g}"
    if isinstance(value, list | dict):
        return safe(json.dumps(value, default=str, ensure_ascii=False))
    return safe(str(value))


def _narrowest(name: str, cells: Sequence[str], is_number: bool) -> int:
    """Return the columns that a column needs: numbers and words are whole, names need not be."""
    if is_number:
        widest = max(map(len, cells), default=0)
    else:
        words = [len(word) for cell in cells for word in cell.split(" ")]
        longest = max(map(len, cells), default=0)
        widest = max(min(max(words, default=0), _LONGEST_WORD), min(longest, _FEWEST_LETTERS))
    return max(widest, min(len(name), 8))


def _widest(name: str, cells: Sequence[str]) -> int:
    return max(map(len, [name, *cells]))


def _widths(narrowest: Sequence[int], widest: Sequence[int], room: int) -> list[int]:
    """Return what each column gets: what it needs, and of the rest those first that lack least."""
    widths = list(narrowest)
    for index in sorted(range(len(widths)), key=lambda each: widest[each] - narrowest[each]):
        widths[index] += max(0, min(widest[index] - widths[index], room - sum(widths)))
    return widths


def _table(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    numeric: Sequence[bool],
    widths: Sequence[int],
    gap: int,
) -> Table:
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold")
    for name, is_number, width in zip(names, numeric, widths, strict=True):
        side = "right" if is_number else "left"
        table.add_column(Text(name), justify=side, width=width, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _print_records(
    console: Console, names: Sequence[str], rows: Sequence[Sequence[str]], width: int
) -> None:
    label = min(max(map(len, names)), width // 3)
    for number, row in enumerate(rows):
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column(width=label, overflow="fold")
        table.add_column(overflow="fold")
        for name, cell in zip(names, row, strict=True):
            table.add_row(Text(name, "dim"), Text(cell))
        if number:
            console.print()
        console.print(table)
