"""A topic's page as HTML: a fragment that looks the same on the lab's page and in a notebook."""

from __future__ import annotations

import html

from gainstage.lab.pictures import bars_svg, figure_svg
from gainstage.lab.topic_page import Bars, Figure, Part, Table, TopicPage

STYLE = """
.gainstage-lab { --quiet: #5b6b80; --edge: #d5dbe4; --card: #f5f7fa; --c0: #0072b2; --c1: #c44e00;
  --c2: #00795a; --c3: #a63d7d; --c4: #8a6400; --c5: #3f6fd1; --c6: #444b57; --c7: #b3260b; }
.gainstage-lab h2 { font-size: 19px; margin: 36px 0 6px; }
.gainstage-lab h3 { font-size: 15px; margin: 20px 0 4px; }
.gainstage-lab p { max-width: 76ch; margin: 8px 0; }
.gainstage-lab .note, .gainstage-lab .legend { color: var(--quiet); font-size: 13px; }
.gainstage-lab .wide { overflow-x: auto; }
.gainstage-lab table { border-collapse: collapse; font-size: 13.5px; background: none;
  font-variant-numeric: tabular-nums; margin: 4px 0; }
.gainstage-lab th { font-weight: 600; color: var(--quiet); border-bottom: 1px solid var(--edge); }
.gainstage-lab th, .gainstage-lab td { padding: 3px 14px 3px 0; text-align: right;
  background: none; vertical-align: top; }
.gainstage-lab td:not(.text) { white-space: nowrap; }
.gainstage-lab .text { text-align: left; min-width: 6em; }
.gainstage-lab tr + tr td { border-top: 1px solid var(--card); }
.gainstage-lab svg { display: block; width: 100%; max-width: 720px; height: auto; }
.gainstage-lab svg text { fill: currentColor; font-size: 12px; }
.gainstage-lab svg .tick, .gainstage-lab svg .axis { fill: var(--quiet); font-size: 11px; }
.gainstage-lab .grid { stroke: var(--edge); stroke-width: 1; }
.gainstage-lab .level { stroke: var(--c7); stroke-dasharray: 2 4; }
.gainstage-lab .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.gainstage-lab .dashed { stroke-dasharray: 6 4; stroke-width: 1.4; }
.gainstage-lab svg .named { paint-order: stroke; stroke: var(--halo, Canvas); stroke-width: 5px;
  stroke-linejoin: round; }
.gainstage-lab .bar { fill: var(--c0); }
.gainstage-lab .negative { fill: var(--c1); }
.gainstage-lab .legend { display: flex; flex-wrap: wrap; gap: 2px 18px; }
.gainstage-lab .key { display: inline-flex; align-items: center; gap: 6px; }
.gainstage-lab svg.swatch { width: 22px; height: 8px; flex: none; }
@media (prefers-color-scheme: dark) {
  .gainstage-lab { --quiet: #93a1b5; --edge: #323b48; --card: #1a1f28; --c0: #56b4e9;
    --c1: #ff9d5c; --c2: #4fc9a0; --c3: #e59ac8; --c4: #e6b93c; --c5: #8fb0ff; --c6: #c5ccd8;
    --c7: #ff7a5e; }
}
@media (max-width: 640px) {
  .gainstage-lab svg text { font-size: 20px; }
  .gainstage-lab svg .tick, .gainstage-lab svg .axis { font-size: 19px; }
}
""" + "".join(f".gainstage-lab .c{i} {{ stroke: var(--c{i}); }}\n" for i in range(8))


def section(page: TopicPage) -> str:
    """Return a topic's page as a fragment with its own style, for a notebook."""
    return f'<style>{STYLE}</style><div class="gainstage-lab">{body(page)}</div>'


def body(page: TopicPage) -> str:
    """Return the heading and parts of a topic's page."""
    parts = "".join(_part(part) for part in page.parts)
    return f'<h2 id="{html.escape(page.name)}">{html.escape(page.title)}</h2>{parts}'


def _part(part: Part) -> str:
    if isinstance(part, str):
        return f"<p>{html.escape(part)}</p>"
    head = f"<h3>{html.escape(part.title)}</h3>"
    note = f'<p class="note">{html.escape(part.note)}</p>' if part.note else ""
    match part:
        case Table():
            return head + _table(part) + note
        case Bars():
            return head + bars_svg(part) + note
        case Figure():
            return head + figure_svg(part) + note


def _table(part: Table) -> str:
    kinds = [i == 0 or column.endswith(":") for i, column in enumerate(part.columns)]
    marks = [' class="text"' if is_text else "" for is_text in kinds]
    head = "".join(
        f'<th scope="col"{mark}>{html.escape(column.removesuffix(":"))}</th>'
        for column, mark in zip(part.columns, marks, strict=True)
    )
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td{mark}>{html.escape(cell)}</td>" for cell, mark in zip(row, marks, strict=True)
        )
        + "</tr>"
        for row in part.rows
    )
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{html.escape(part.title)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
