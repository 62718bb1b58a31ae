"""docs/architecture.md and its drawing show the imports that the test of the rooms allows."""

from __future__ import annotations

import re

import pytest
from tools.draw_rooms import DRAWING, PAGE, blocks_of, levels, matrix, page_with

from imports import SOURCE
from test_architecture import ALLOWED, SUB_ROOMS

TEXT = PAGE.read_text()


def test_the_page_has_the_tables_of_the_rooms() -> None:
    blocks = blocks_of(ALLOWED, SUB_ROOMS)
    assert page_with(TEXT, blocks) == TEXT, "run `make rooms`"
    assert all(f"<!-- begin {name} -->" in TEXT for name in blocks)


def test_the_drawing_is_that_of_the_rooms() -> None:
    assert matrix(ALLOWED) == DRAWING.read_text(), "run `make rooms`"


def test_a_room_stands_above_all_that_it_imports() -> None:
    imports = {"a": {"b", "c"}, "b": {"c"}, "c": set[str](), "d": {"c"}}
    assert levels(imports) == [["a"], ["b", "d"], ["c"]]


def test_every_room_of_the_package_is_in_the_table() -> None:
    rooms = {path.name.removesuffix(".py") for path in SOURCE.iterdir() if path.suffix == ".py"}
    rooms |= {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert rooms - {"__init__"} == ALLOWED.keys()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(\w+/[\w/]+\.py)`", TEXT))))
def test_a_file_that_the_page_names_is_there(name: str) -> None:
    assert (SOURCE / name).is_file() or (SOURCE.parents[1] / name).is_file()
