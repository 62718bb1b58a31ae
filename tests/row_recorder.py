"""A record written row by row, without a training and without an observer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gainstage.facts.blocks import ProfileBlock, StepBlock, TimeBlock, WeightBlock
from gainstage.facts.rows import Row, WeightRow
from gainstage.facts.tensor import TensorInfo
from gainstage.observe.writer import StepWriter
from gainstage.store.blocks import to_block, to_weight_block

Listener = Callable[[StepBlock, WeightBlock, Sequence[tuple[ProfileBlock, TimeBlock]]], None]


class RowRecorder:
    """Collects rows, and writes them as one block at each `flush`."""

    def __init__(
        self,
        folder: Path,
        rank: int,
        tensors: Sequence[TensorInfo],
        *,
        warn: Callable[[str], Any],
        listener: Listener | None = None,
        **options: Any,
    ) -> None:
        self.writer = StepWriter(folder, rank, tensors, warn=warn, **options)
        self._listener = listener
        self._forget()

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        return self.writer.tensors

    def append(self, row: Row) -> None:
        self._rows.append(row)

    def append_weights(self, step: int, norms: Sequence[float | None]) -> None:
        self._weights.append((step, norms))

    def append_profile(self, profile: Callable[[], tuple[ProfileBlock, TimeBlock]]) -> None:
        self._profiles.append(profile())

    def set_tensors(self, tensors: Sequence[TensorInfo]) -> None:
        self.flush()
        self.writer.tensors = tuple(tensors)

    def flush(self) -> None:
        if not (self._rows or self._weights or self._profiles):
            return
        columns = len(self.tensors)
        block, weights = to_block(self._rows, columns), to_weight_block(self._weights, columns)
        profiles = self._profiles
        self._forget()
        self.writer.write(block, weights, profiles)
        if self._listener is not None:
            self._listener(block, weights, profiles)

    def close(self) -> None:
        self.flush()
        self.writer.close()

    def _forget(self) -> None:
        self._rows: list[Row] = []
        self._weights: list[WeightRow] = []
        self._profiles: list[tuple[ProfileBlock, TimeBlock]] = []
