"""The tables of the docs that follow from registries are as `tools/doc_tables.py` writes them."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
TOOL: dict[str, Any] = runpy.run_path(str(ROOT / "tools" / "doc_tables.py"))
PAGES = {page: page.read_text(encoding="utf-8") for page in (ROOT / "docs").rglob("*.md")}


@pytest.mark.parametrize("name", TOOL["TABLES"])
def test_a_table_of_the_docs_is_that_of_the_registry(name: str) -> None:
    (text,) = [text for text in PAGES.values() if f"<!-- table: {name} -->" in text]
    assert TOOL["rewritten"](text) == text, "run `make tables`"


def test_every_row_has_as_many_cells_as_the_head() -> None:
    for table in TOOL["TABLES"].values():
        head, _, *rows = table()
        assert {row.count(" | ") for row in rows} == {head.count(" | ")}
