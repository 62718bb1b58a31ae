"""CSV: one table that any tool reads."""

from __future__ import annotations

from pathlib import Path

from gainstage.facts.run_info import RunInfo
from gainstage.integrations.sinks.kind import SeriesSink, SinkKind


def _open(path: Path, info: RunInfo) -> SeriesSink:
    from gainstage.store.export import CsvFile

    return CsvFile(path)


CSV = SinkKind(
    name="csv",
    title="CSV",
    open=_open,
    place="file",
    default="export.csv",
    loses="`nan`, `inf`, `-inf`; what was not there is empty. Symptoms have no place",
)
