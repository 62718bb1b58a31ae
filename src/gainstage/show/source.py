"""Lines of the user's source, read when a report is made."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from gainstage.facts.run_info import RunInfo

_AROUND = 4
_LARGEST_BYTES = 2_000_000


@dataclass(frozen=True, slots=True)
class SourceExcerpt:
    """Lines of a file around one of them."""

    first: int
    """Number of the first line, from 1."""
    lines: tuple[str, ...]
    line: int
    is_newer: bool
    """Whether the file was written after the run began: its lines may be others by now."""

    @property
    def text(self) -> str:
        """Return the line itself, without its indentation."""
        return self.lines[self.line - self.first].strip()


def source_of(file: str | None, line: int | None, info: RunInfo) -> SourceExcerpt | None:
    """Return the lines around a line of a file; None where there are none to read.

    A run's record may come from a stranger, so that only Python files are opened: a report must
    not carry off whatever file a record names.
    """
    if file is None or line is None:
        return None
    path = Path(file)
    try:
        if path.suffix != ".py" or not path.is_file() or path.stat().st_size > _LARGEST_BYTES:
            return None
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        written = path.stat().st_mtime
    except (OSError, ValueError):
        return None
    if not 1 <= line <= len(lines):
        return None
    first = max(1, line - _AROUND)
    is_newer = written >= _began(info) + 1.0
    return SourceExcerpt(first, tuple(lines[first - 1 : line + _AROUND]), line, is_newer)


def _began(info: RunInfo) -> float:
    """Return when the run began, in seconds since the epoch; rounded down to whole ones."""
    try:
        return datetime.fromisoformat(str(info.started)).timestamp()
    except ValueError:
        return float("inf")
