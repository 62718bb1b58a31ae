"""The lab's page: one file without a network, with the topics of a run and sliders to try values.

The page's policy allows the one script it came with, as the report's does.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import torch

from gainstage import __version__
from gainstage.facts.codec import to_json
from gainstage.lab.markup import STYLE, body
from gainstage.lab.topic_page import TopicPage
from gainstage.lab.validate import DTYPES
from gainstage.show.html_page import page_with_script
from gainstage.show.html_page import write_page as write_html

_PAGE_STYLE = """
:root { color-scheme: light dark; --text: #1f2733; --ground: #ffffff; --focus: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e3e8f0; --ground: #12151b; --focus: #56b4e9; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif; }
main { max-width: 860px; margin: 0 auto; padding: 20px 24px 64px; }
h1 { font-size: 24px; margin: 0 0 4px; }
nav { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 12px 0; }
a { color: var(--focus); }
:focus-visible { outline: 2px solid var(--focus); outline-offset: 2px; }
.bench { border: 1px solid var(--edge); border-radius: 8px; padding: 12px 16px 16px;
  margin: 18px 0; background: var(--card); }
.bench { --halo: var(--card); }
.bench h2 { margin-top: 0; }
.bench svg:not(.swatch) { max-width: none; }
.bench .column { opacity: 0.9; }
.bench .column.c0 { fill: var(--c0); }
.bench .column.c1 { fill: var(--c1); }
.bench .column.c2 { fill: var(--c2); }
.knobs { display: grid; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr));
  gap: 8px 24px; margin: 8px 0 12px; }
.knobs label { display: block; font-size: 13.5px; }
.knobs input, .knobs select { width: 100%; font: inherit; color: inherit;
  accent-color: var(--focus); }
.knobs select { background: var(--ground); border: 1px solid var(--edge); border-radius: 4px; }
.knobs output { font-weight: 600; font-variant-numeric: tabular-nums; float: right; }
.said { font-weight: 600; min-height: 3em; margin: 4px 0; }
.bench .lost { stroke: var(--c7); stroke-width: 2; fill: none; }
.bench .dead { fill: var(--c7); opacity: 0.16; }
footer { margin-top: 48px; font-size: 13px; color: var(--quiet); }
@media (max-width: 640px) { main { padding: 12px 12px 40px; } .bench { padding: 10px 12px; } }
@media print {
  :root { color-scheme: light; --text: #000000; --ground: #ffffff; --focus: #0072b2; }
  .gainstage-lab { --quiet: #444b57; --edge: #b8c0cc; --card: #ffffff; --c0: #0072b2; --c1: #c44e00;
    --c2: #00795a; --c3: #a63d7d; --c4: #8a6400; --c5: #3f6fd1; --c6: #444b57; --c7: #b3260b; }
  body { font-size: 12px; print-color-adjust: exact; }
  main { max-width: none; padding: 0; } nav { display: none; }
  h2, h3, .legend { break-after: avoid; } svg, tr, .bench { break-inside: avoid; }
  thead { display: table-header-group; } .wide { overflow: visible; }
}
"""

_BODY = """<main class="gainstage-lab">
<h1>Exploding gradients</h1>
<p>A deep network is a chain of amplifiers. Each stage multiplies the signal on its way forward and
the gradient on its way back; a little too much gain a stage, and after enough stages nothing is
left but infinity. All levels here are in bits (log2), so a slope of +1 bit a layer doubles at
every layer, and the distance to a number format's largest value is a count of bits. Every number
below was computed by the run that wrote this page, by training and differentiating, on torch
{torch}.</p>
<nav aria-label="topics">{links}</nav>
<div id="bench"></div>
<noscript><p>The bench with its sliders needs JavaScript; all that follows does not.</p></noscript>
{sections}
<footer>Written by gainstage {version}, torch {torch}. No part of this page asks a network for
anything.</footer>
</main>
"""


def write_page(topic_pages: Sequence[TopicPage], path: Path) -> None:
    """Write topics as one page; a file that is there stays whole until it is replaced.

    Raises:
        ConfigError: If the file cannot be written.
    """
    write_html(render_page(topic_pages), path, "page")


def render_page(topic_pages: Sequence[TopicPage]) -> str:
    """Return topics as one page with the bench before them."""
    script = files("gainstage.lab").joinpath("bench.js").read_text(encoding="utf-8")
    links = "".join(f'<a href="#{page.name}">{html.escape(page.name)}</a>' for page in topic_pages)
    content = _BODY.format(
        torch=html.escape(torch.__version__),
        version=__version__,
        links=f'<a href="#bench">bench</a>{links}',
        sections="".join(f"<section>{body(page)}</section>" for page in topic_pages),
    )
    return page_with_script(
        content,
        "gainstage lab: exploding gradients",
        data=to_json({"dtypes": _dtypes()}),
        script=script,
        style=STYLE + _PAGE_STYLE,
    )


def _dtypes() -> list[dict[str, object]]:
    """Return what the bench needs to know of each dtype, as torch has it."""
    rows: list[dict[str, object]] = []
    for name, dtype in DTYPES.items():
        info = torch.finfo(dtype)
        rows.append(
            {"name": name, "largest": info.max, "smallest": info.smallest_normal * info.eps}
        )
    return rows
