"""The symptoms as the table in docs/detectors.md."""

from __future__ import annotations

from collections.abc import Iterable

from gainstage.detect.kind.symptom_kind import SymptomKind

_HEAD = "| symptom | statistic | source | units | severity | silent on |"


def symptom_table(kinds: Iterable[SymptomKind]) -> str:
    """Return the table, a row for each way in which a symptom shows."""
    lines = [_HEAD, "|---|---|---|---|---|---|"]
    for kind in kinds:
        for number, row in enumerate(kind.docs):
            name = "" if number else f"`{kind.id}`"
            cells = (name, row.statistic, row.source, row.units, row.severity, row.silent_on)
            lines.append("| " + " | ".join(each.replace("|", "\\|") for each in cells) + " |")
    return "\n".join(lines).replace("|  |", "| |") + "\n"
