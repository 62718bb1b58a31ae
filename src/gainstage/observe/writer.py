"""The writing end of a run's record: blocks of steps, weights and profiles onto the disk."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (PyArrow comes without types; what leaves this file has them.)

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from gainstage.facts.blocks import ProfileBlock, StepBlock, TimeBlock, WeightBlock
from gainstage.facts.tensor import TensorInfo
from gainstage.store.levels import (
    LEVELS,
    BinCollector,
    Bins,
    bins_of_steps,
    levels_batch,
    levels_schema,
)
from gainstage.store.schema import (
    profiles_batch,
    steps_batch,
    steps_schema,
    times_batch,
    weights_batch,
    weights_schema,
)
from gainstage.store.stream import SEGMENT_BYTES, Stream

Warn = Callable[[str], None]


class StepWriter:
    """Writes `steps/`, `weights/`, `levels/`, `profiles/` and `times/` of one rank.

    An error of the disk is reported once; writing is tried again later.
    """

    def __init__(
        self,
        folder: Path,
        rank: int,
        tensors: Sequence[TensorInfo],
        *,
        warn: Warn,
        segment_bytes: int = SEGMENT_BYTES,
        retry_s: float = 5.0,
    ) -> None:
        """Prepare the files, which are made with their first rows.

        Args:
            folder: The run's folder.
            rank: The rank, claimed for the process that is watched.
            tensors: The watched parameters so far.
            warn: Takes one line, at most once for each kind of trouble.
            segment_bytes: The size at which a live file becomes a segment.
            retry_s: How long to leave the disk alone after an error.
        """
        self.tensors: tuple[TensorInfo, ...] = tuple(tensors)
        """The columns of the rows to come: those known, and behind them new ones."""
        self._warn = warn
        self._warned: set[str] = set()
        self._levels = {level: BinCollector(level) for level in LEVELS}
        part = f"rank={rank}"

        def stream(*parts: str) -> Stream:
            path = folder.joinpath(*parts)
            return Stream(path, segment_bytes=segment_bytes, retry_s=retry_s)

        self._step_stream = stream("steps", part)
        self._weight_stream = stream("weights", part)
        self._profile_stream = stream("profiles", part)
        self._time_stream = stream("times", part)
        self._level_streams = {level: stream("levels", part, f"level={level}") for level in LEVELS}

    def write(
        self,
        block: StepBlock,
        weights: WeightBlock,
        profiles: Sequence[tuple[ProfileBlock, TimeBlock]] = (),
    ) -> None:
        """Write what has come since the last call. Waits for the disk."""
        if len(block):
            batch = steps_batch(block, steps_schema(self.tensors))
            self._tell(self._step_stream.append(batch), self._step_stream)
            self._gather(block)
        if len(weights):
            batch = weights_batch(weights, weights_schema(self.tensors))
            self._tell(self._weight_stream.append(batch), self._weight_stream)
        for profile, times in profiles:
            error = self._profile_stream.append(profiles_batch(profile))
            self._tell(error, self._profile_stream)
            if len(times):
                self._tell(self._time_stream.append(times_batch(times)), self._time_stream)

    def close(self, *, lost: int = 0) -> None:
        """Finish the files. Call it once.

        Args:
            lost: Rows that never reached this writer.
        """
        self._finish_levels()
        streams = [
            self._step_stream,
            self._weight_stream,
            self._profile_stream,
            self._time_stream,
            *self._level_streams.values(),
        ]
        for stream in streams:
            self._tell(stream.close(), stream)
        lost += self._step_stream.lost_rows
        if lost:
            self._warn_once("lost", f"{lost} steps are missing from the record")

    def _gather(self, block: StepBlock) -> None:
        bins = bins_of_steps(block)
        for level, gathered in self._levels.items():
            bins = gathered.add(bins)
            self._write_level(level, bins)

    def _finish_levels(self) -> None:
        """Write the bins that are still open, and what they add to the next level."""
        below: Bins | None = None
        for level, gathered in self._levels.items():
            if below is not None:
                self._write_level(level, gathered.add(below))
            below = gathered.rest()
            if below is not None:
                self._write_level(level, below)

    def _write_level(self, level: int, bins: Bins) -> None:
        if not len(bins):
            return
        schema = levels_schema(self.tensors)
        stream = self._level_streams[level]
        batch = levels_batch(bins, schema, len(self.tensors))
        self._tell(stream.append(batch), stream)

    def _tell(self, error: Exception | None, stream: Stream) -> None:
        if error is not None:
            self._warn_once(
                "disk",
                f"cannot write {stream.folder} ({error}); training goes on, the record has a gap "
                "unless the disk comes back",
            )

    def _warn_once(self, kind: str, message: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            self._warn(message)
