"""The tables of the docs that follow from registries: `python tools/doc_tables.py` rewrites them.

A table stands between `<!-- table: NAME -->` and `<!-- end of table -->`. To add one, write a
function that returns its lines and put it into `TABLES`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from gainstage.detect.kinds import KINDS as SYMPTOMS
from gainstage.detect.symptom_table import symptom_table
from gainstage.integrations.sinks import SINKS, SinkKind
from gainstage.treat.kind import Moment, TreatmentForm, TreatmentKind
from gainstage.treat.kinds import KINDS
from gainstage.treat.settings import Setting, Word, text_of

DOCS = Path(__file__).parents[1] / "docs"
_MARKED = re.compile(
    r"(<!-- table: (?P<name>[a-z-]+) -->\n).*?(?=<!-- end of table -->)", re.DOTALL
)

_ACTS: Mapping[Moment, str] = {
    "start": "before the script begins",
    "forward": "in the forward pass",
    "backward": "in the backward pass",
    "gradients": "on the gradients",
    "step": "during the optimizer's step",
    "update": "on the update",
}


def treatments_table() -> list[str]:
    """Return the table of `docs/treatments.md`: a row a form."""
    head = ["id", "settings and defaults", "what it does", "acts", "after", "costs"]
    rows = [_treatment_row(kind, form) for kind in KINDS.values() for form in kind.forms]
    return _table(head, rows)


def _treatment_row(kind: TreatmentKind, form: TreatmentForm) -> list[str]:
    chosen = text_of(form.chosen_by)
    values = kind.values(form.chosen_by)
    settings = [each for each in kind.settings if each.name in values.keys() - form.chosen_by]
    return [
        f"`{kind.id}:{chosen}`" if chosen else f"`{kind.id}`",
        ", ".join(_shown(setting, kind) for setting in settings),
        form.does,
        _ACTS[form.acts],
        form.source,
        form.costs,
    ]


def _shown(setting: Setting, kind: TreatmentKind) -> str:
    """Return a setting with its default, and with what else it can be."""
    if not isinstance(setting, Word):
        other = " (or `inf`)" if setting.or_inf and setting.default != float("inf") else ""
        return f"`{setting.name}={_number(setting.default)}`{other}"
    default = f"`{setting.name}={setting.default or setting.stands_for}`"
    others = [f"`{word}`" for word in setting.choices if word != setting.default]
    if not others or setting.name in kind.choosing():
        return default
    return f"{default} (or {', '.join(others)})"


def _number(value: float) -> str:
    return f"{value:g}".replace("e-0", "e-")


def sinks_table() -> list[str]:
    """Return the table of `docs/export.md`: a row a kind of sink."""
    head = ["`--sink`", "tool", "needs", "`--to` writes", "holds", "notes"]
    return _table(head, [_sink_row(kind) for kind in SINKS.values()])


def _sink_row(kind: SinkKind) -> list[str]:
    place = {"file": "FILE", "folder": "DIR"}[kind.place]
    written = Path("RUN", kind.default, kind.subfolder).as_posix()
    needs = f"`pip install 'gainstage[{kind.extra}]'`" if kind.extra else ""
    return [f"`{kind.name}:{place}`", kind.title, needs, f"`{written}`", kind.keeps, kind.loses]


def symptoms_table() -> list[str]:
    """Return the table of `docs/detectors.md`: a row for each way in which a symptom shows."""
    return symptom_table(SYMPTOMS).splitlines()


TABLES: Mapping[str, Callable[[], list[str]]] = {
    "sinks": sinks_table,
    "symptoms": symptoms_table,
    "treatments": treatments_table,
}
"""By the name that the docs use."""


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    body = [f"| {' | '.join(cells)} |" for cells in rows]
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *body]


def rewritten(text: str) -> str:
    """Return a page with its tables as the registries have them."""
    return _MARKED.sub(lambda found: "\n".join([found[1], *TABLES[found["name"]](), "", ""]), text)


def main() -> None:
    """Rewrite the tables of all pages."""
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        if rewritten(text) != text:
            page.write_text(rewritten(text), encoding="utf-8")
            print(f"rewrote {page.relative_to(DOCS.parent)}")


if __name__ == "__main__":
    main()
