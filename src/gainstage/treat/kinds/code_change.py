"""`code-change`: the script with another text than its file has."""

from __future__ import annotations

from gainstage.treat.kind import TreatmentForm, TreatmentKind
from gainstage.treat.settings import Word
from gainstage.treat.treatment import Treatment


def _make(source: str) -> Treatment:
    from gainstage.treat.code_change import CodeChange

    return CodeChange(source)


CODE_CHANGE = TreatmentKind(
    id="code-change",
    settings=(Word("source", "", stands_for="FILE"),),
    has_schedule=False,
    forms=(
        TreatmentForm(
            make=_make,
            acts="start",
            does="runs the script with the text of another file in place of its own: `__file__`, "
            "arguments and `sys.path` stay. Only by `gainstage run`, for a script of one file; "
            "takes neither `from` nor `until`",
        ),
    ),
    by_hand="take the text of {source}",
)
