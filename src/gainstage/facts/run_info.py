"""What ran, and how it ended: run.json."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from gainstage.facts.ranges import OMIT, AtLeastOne, Count

RUN_SCHEMA: Final = "gainstage.run/1"


def name_of_process(number: int, world_size: int | None) -> str:
    """Return what people call a process of a run: `rank 1`, or `process 1` where it is no rank."""
    is_rank = world_size is not None and number < world_size
    return f"rank {number}" if is_rank else f"process {number}"


def name_of_processes(count: int, world_size: int | None) -> str:
    """Return what people call all of them: `2 ranks`, or `3 processes`."""
    return f"{count} {'ranks' if world_size is not None and count <= world_size else 'processes'}"


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
    world_size: AtLeastOne | None = field(default=None, metadata=OMIT)
    """Ranks of torch.distributed; absent where the processes that train are no ranks."""
    held_bytes: Count | None = field(default=None, metadata=OMIT)
    """Most bytes of inputs that were held at once until their step was judged."""

    @property
    def exception(self) -> str | None:
        """The error that ended the script."""
        return None if self.exit is None else self.exit.exception
