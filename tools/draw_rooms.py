"""Writes who may import whom into docs/architecture.md and docs/rooms.svg.

The rooms and their imports come from tests/test_architecture.py, the words from the first lines of
the rooms' docstrings. Run it as `make rooms` after a change of either.
"""

from __future__ import annotations

import ast
import html
import sys
from collections.abc import Mapping, Set
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
DRAWING = ROOT / "docs" / "rooms.svg"
BEGIN, END = "<!-- begin {} -->", "<!-- end {} -->"

_CELL, _LABEL, _TOP, _WORDS = 26, 112, 112, 660
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2733}.quiet{fill:#5b6b80}"
    ".grid{stroke:#e3e8f0}.own{fill:#e3e8f0}.uses{fill:#0072b2}"
)

Imports = Mapping[str, Set[str]]


def levels(imports: Imports) -> list[list[str]]:
    """Return rooms by level, the highest first: a room imports from lower levels only."""
    level: dict[str, int] = {}

    def level_of(room: str) -> int:
        if room not in level:
            level[room] = 1 + max((level_of(other) for other in imports[room]), default=-1)
        return level[room]

    highest = max(map(level_of, imports))
    return [[room for room in imports if level[room] == n] for n in range(highest, -1, -1)]


def level_drawing(imports: Imports) -> str:
    """Return the levels as a block of text."""
    lines = ["   ".join(f"[{room}]" for room in level) for level in levels(imports)]
    width = max(map(len, lines))
    return "\n".join(["```text", *(line.center(width).rstrip() for line in lines), "```"])


def table(imports: Imports) -> str:
    """Return what each room is for and imports, as a table in Markdown."""
    rows = ["| room | what it is for | imports |", "|---|---|---|"]
    for level in levels(imports):
        for room in level:
            others = ", ".join(f"`{other}`" for other in imports if other in imports[room])
            rows.append(f"| `{room}` | {purpose(room)} | {others or 'none'} |")
    return "\n".join(rows)


def part_table(parts: Mapping[str, Imports]) -> str:
    """Return what folders inside the rooms import of each other, as a table in Markdown."""
    rows = ["| folder | imports of its own room |", "|---|---|"]
    for room, imports in parts.items():
        for part, others in imports.items():
            if part != ".":
                names = sorted("the room's own files" if o == "." else f"`{o}`" for o in others)
                folder = f"{room}/{part.replace('.', '/')}"
                rows.append(f"| `{folder}` | {', '.join(names) or 'none'} |")
    return "\n".join(rows)


def matrix(imports: Imports) -> str:
    """Return a drawing: a row a room, with a dot in the column of each room that it imports."""
    rooms = [room for level in levels(imports) for room in level]
    height = _TOP + _CELL * len(rooms) + 8
    width = _LABEL + _CELL * len(rooms) + _WORDS
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'aria-label="Which room imports which">',
        f'<style>{_STYLE}</style><rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for number, room in enumerate(rooms):
        x, y = _LABEL + _CELL * number, _TOP + _CELL * number
        parts += [
            f'<text x="{_LABEL - 8}" y="{y + 18}" text-anchor="end">{room}</text>',
            f'<text transform="translate({x + 17} {_TOP - 8}) rotate(-90)">{room}</text>',
            f'<line class="grid" x1="0" x2="{width}" y1="{y}" y2="{y}"/>',
            f'<rect class="own" x="{x}" y="{y}" width="{_CELL}" height="{_CELL}"/>',
            f'<text class="quiet" x="{_LABEL + _CELL * len(rooms) + 14}" y="{y + 18}">'
            f"{html.escape(purpose(room))}</text>",
        ]
        parts += [
            f'<circle class="uses" cx="{_LABEL + _CELL * column + 13}" cy="{y + 13}" r="5"/>'
            for column, other in enumerate(rooms)
            if other in imports[room]
        ]
    return "\n".join([*parts, "</svg>\n"])


def purpose(room: str) -> str:
    """Return the first line of a room's docstring."""
    path = ROOT / "src" / "gainstage" / room
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n\n")[0].replace("\n", " ")


def page_with(text: str, blocks: Mapping[str, str]) -> str:
    """Return a page with the text between the marks of each block replaced."""
    for name, block in blocks.items():
        before, begin, rest = text.partition(BEGIN.format(name))
        _, end, after = rest.partition(END.format(name))
        text = f"{before}{begin}\n{block}\n{end}{after}"
    return text


def blocks_of(imports: Imports, parts: Mapping[str, Imports]) -> dict[str, str]:
    """Return the generated parts of the page by name."""
    return {
        "levels": level_drawing(imports),
        "rooms": table(imports),
        "parts": part_table(parts),
    }


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests"))
    from test_architecture import ALLOWED, SUB_ROOMS

    PAGE.write_text(page_with(PAGE.read_text(), blocks_of(ALLOWED, SUB_ROOMS)))
    DRAWING.write_text(matrix(ALLOWED))
