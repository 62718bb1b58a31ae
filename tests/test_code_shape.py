"""How long functions and files of the package are, and that class names are unique."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from imports import SOURCE

LONGEST_FUNCTION = 60
LONGEST_TENTH = 24
"""Nine functions of ten have at most so many lines."""
LONGEST_FILE = 400
FILES = sorted(SOURCE.rglob("*.py"))

NAMED_TWICE = {"GainstageCallback"}
"""It is public, in the module of each framework that has a callback: one name to remember."""
LONG_FILES = {"attach/sample/graph_watch.py"}
"""To be taken apart; nothing may be added."""


def functions_of(text: str) -> Iterator[tuple[str, int]]:
    """Yield the name and length of each function: all its lines from `def` on, docstring included.

    A function inside another one counts on its own, and within that other one as well.
    """
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def test_length_counts_every_line_of_a_function() -> None:
    text = (
        'def outer():\n    """Words."""\n\n    def inner():\n        return 1\n    return inner\n'
    )
    assert sorted(functions_of(text)) == [("inner", 2), ("outer", 6)]


def test_nine_functions_of_ten_are_short() -> None:
    lengths = sorted(n for path in FILES for _, n in functions_of(path.read_text()))
    assert lengths[int(0.9 * len(lengths))] <= LONGEST_TENTH


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_function_is_too_long(path: Path) -> None:
    long = {
        f"{name_of(path)} {name}"
        for name, n in functions_of(path.read_text())
        if n > LONGEST_FUNCTION
    }
    assert not long


def test_no_file_is_too_long() -> None:
    lines = {name_of(path): len(path.read_text().splitlines()) for path in FILES}
    assert {name for name, n in lines.items() if n > LONGEST_FILE} <= LONG_FILES


def test_no_class_name_is_used_twice() -> None:
    homes: defaultdict[str, list[str]] = defaultdict(list)
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(name_of(path))
    twice = {name: paths for name, paths in homes.items() if len(paths) > 1}
    assert twice.keys() <= NAMED_TWICE, twice
