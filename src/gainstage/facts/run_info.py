"""What ran, and how it ended: run.json."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from gainstage.facts.ranges import OMIT, AtLeastOne, Count

RUN_SCHEMA: Final = "gainstage.run/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunExit:
    """How the script ended."""

    exception: str | None
    """The error that ended the script."""
    killed: str | None = field(default=None, metadata=OMIT)
    """What killed the process, where it did not end by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """run.json: what ran, and how it ended."""

    schema: Literal["gainstage.run/1"] = RUN_SCHEMA
    script: str = "?"
    argv: tuple[str, ...] | None = field(default=None, metadata=OMIT)
    cwd: str | None = field(default=None, metadata=OMIT)
    python: str | None = field(default=None, metadata=OMIT)
    torch: str | None = None
    """null until torch is imported."""
    gainstage: str | None = field(default=None, metadata=OMIT)
    threads: AtLeastOne | None = field(default=None, metadata=OMIT)
    """Of torch in the first process; absent until it trains."""
    treat: tuple[str, ...] | None = field(default=None, metadata=OMIT)
    """As `run --treat` takes them."""
    guard: str | None = field(default=None, metadata=OMIT)
    """As `run --guard` takes it."""
    host: str | None = field(default=None, metadata=OMIT)
    pid: AtLeastOne | None = field(default=None, metadata=OMIT)
    """Of the first process, on that host."""
    started: str | None = field(default=None, metadata=OMIT)
    """Date and time in UTC, as ISO 8601 writes them."""
    ended: str | None = None
    """null while it runs, or if it was killed."""
    exit: RunExit | None = None
    """null while it runs, if it was killed, or under `gainstage.watch`."""
    held_bytes: Count | None = field(default=None, metadata=OMIT)
    """Most bytes of inputs that were held at once until their step was judged."""

    @property
    def exception(self) -> str | None:
        """The error that ended the script."""
        return None if self.exit is None else self.exit.exception
