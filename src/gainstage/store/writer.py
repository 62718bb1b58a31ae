"""The writing end of a run: a thread that takes rows off the ring and puts them on disk."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (PyArrow comes without types; what leaves this file has them.)

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from gainstage.facts.blocks import (
    ProfileBlock,
    StepBlock,
    TimeBlock,
    WeightBlock,
)
from gainstage.facts.tensor import TensorInfo
from gainstage.store.levels import (
    LEVELS,
    BinCollector,
    Bins,
    bins_of_steps,
    levels_batch,
    levels_schema,
)
from gainstage.store.ring import Ring, Row, WeightRow, capacity_for, to_block, to_weight_block
from gainstage.store.schema import (
    profiles_batch,
    steps_batch,
    steps_schema,
    times_batch,
    weights_batch,
    weights_schema,
)
from gainstage.store.stream import SEGMENT_BYTES, Stream

Listener = Callable[[StepBlock, WeightBlock | None, Sequence[tuple[ProfileBlock, TimeBlock]]], None]
Warn = Callable[[str], None]

_PROFILES_HELD = 256


class StepWriter:
    """Takes what one rank sends and writes `steps/`, `weights/`, `levels/`, `profiles/`, `times/`.

    `append` and `append_weights` only queue. Twice a second a thread of its own writes what is
    queued, so that a run that is killed loses less than a second, and hands it to a listener. An
    error of the disk is told once; writing is tried again later, and the listener goes on.
    """

    def __init__(
        self,
        folder: Path,
        rank: int,
        tensors: Sequence[TensorInfo],
        *,
        warn: Warn,
        listener: Listener | None = None,
        flush_s: float = 0.5,
        segment_bytes: int = SEGMENT_BYTES,
        retry_s: float = 5.0,
    ) -> None:
        """Start the thread.

        Args:
            folder: The run's folder.
            rank: The rank, claimed for this process.
            tensors: The watched parameters so far.
            warn: Takes one line, at most once for each kind of trouble.
            listener: Called with what was queued since the last time, in the writer's thread.
            flush_s: The longest time that a row waits in memory.
            segment_bytes: The size at which a live file becomes a segment.
            retry_s: How long to leave the disk alone after an error.
        """
        self.tensors: tuple[TensorInfo, ...] = tuple(tensors)
        self._warn = warn
        self._listener = listener
        self._flush_s = flush_s
        self._warned: set[str] = set()
        self._rows: Ring[Row] = Ring(capacity_for(len(tensors)))
        self.append: Callable[[Row], None] = self._rows.append
        """Queues the row of one step. Runs in the training thread, in about 0.1 µs."""
        self._weights: Ring[WeightRow] = Ring(capacity_for(len(tensors)))
        self._profiles: Ring[Callable[[], tuple[ProfileBlock, TimeBlock]]] = Ring(_PROFILES_HELD)
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
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="gainstage-writer", daemon=True)
        self._thread.start()

    def append_weights(self, step: int, norms: Sequence[float | None]) -> None:
        """Queue the 2-norms of the parameters before a step."""
        self._weights.append((step, norms))

    def append_profile(self, profile: Callable[[], tuple[ProfileBlock, TimeBlock]]) -> None:
        """Queue the levels of a sampled graph; they are computed in the writer's thread."""
        self._profiles.append(profile)

    def set_tensors(self, tensors: Sequence[TensorInfo]) -> None:
        """Take the watched parameters anew: those known, and behind them new ones."""
        self.flush()
        with self._lock:
            self.tensors = tuple(tensors)
            self._rows.capacity = self._weights.capacity = capacity_for(len(tensors))

    def flush(self) -> None:
        """Write what is queued now. Waits for the disk."""
        with self._lock:
            self._drain()

    def close(self) -> None:
        """Write what is queued, finish the files and end the thread. Call it once."""
        self._stopping.set()
        self._thread.join(timeout=30.0)
        with self._lock:
            self._drain()
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
            lost = self._step_stream.lost_rows + self._rows.dropped
            if lost:
                self._warn_once("lost", f"{lost} steps are missing from the record")

    def _work(self) -> None:
        while not self._stopping.wait(self._flush_s):
            try:
                self.flush()
            except Exception as error:
                self._warn_once("writer", f"the record stopped, {type(error).__name__}: {error}")
                return

    def _drain(self) -> None:
        rows, weight_rows = self._rows.drain(), self._weights.drain()
        profiles = [compute() for compute in self._profiles.drain()]
        if not (rows or weight_rows or profiles):
            return
        block = to_block(rows, len(self.tensors))
        weights = to_weight_block(weight_rows, len(self.tensors)) if weight_rows else None
        if rows:
            batch = steps_batch(block, steps_schema(self.tensors))
            self._tell(self._step_stream.append(batch), self._step_stream)
            self._gather(block)
        if weights is not None:
            batch = weights_batch(weights, weights_schema(self.tensors))
            self._tell(self._weight_stream.append(batch), self._weight_stream)
        for profile, times in profiles:
            error = self._profile_stream.append(profiles_batch(profile))
            self._tell(error, self._profile_stream)
            if len(times):
                self._tell(self._time_stream.append(times_batch(times)), self._time_stream)
        if self._listener is not None:
            try:
                self._listener(block, weights, profiles)
            except Exception as error:
                self._warn_once(
                    "listener", f"live findings stopped, {type(error).__name__}: {error}"
                )

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
