"""The reading end of the ring of rows: in the observer, or in whoever recovers a run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gainstage.channel.memory import WORD, open_mapped, words_of
from gainstage.channel.rows import (
    ABSENT_BITS,
    COLUMNS_AT,
    HEAD_AT,
    HEADER_WORDS,
    MAGIC,
    MAGIC_AT,
    SLOT_BYTES_AT,
    SLOTS_AT,
    START_AT,
    SUCCEEDED_AT,
    TENSORS_AT,
    VERSION,
    VERSION_AT,
    slot_bytes,
)
from gainstage.facts.codec import from_builtins
from gainstage.facts.tensor import TensorInfo

_FIELDS = [("step", "<i8"), ("flags", "<i8"), ("numbers", "<f8", 6), ("skipped", "<i8")]
"""What a slot begins with, as the writer packs it."""


@dataclass(frozen=True, slots=True)
class Slots:
    """Rows as they lie in the ring, copied out: one array entry a row."""

    step: NDArray[np.int64]
    flags: NDArray[np.int64]
    numbers: NDArray[np.float64]
    """Shape (rows, 6): time, loss, lr, grad_norm, max_norm, clip_coefficient; NaN for None."""
    skipped: NDArray[np.int64]
    norms: NDArray[np.float64]
    """Shape (rows, tensors)."""
    present: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.step)


class RowReader:
    """The reading end of a ring, in the observer or in whoever recovers a run."""

    def __init__(self, path: Path) -> None:
        """Open a ring.

        Raises:
            OSError: If it is not there.
            ValueError: If it is no ring, or not complete yet.
        """
        self._memory = open_mapped(path)
        if len(self._memory) < TENSORS_AT + WORD:
            raise ValueError(f"{path.name} is too short for a ring of rows")
        self._words = words_of(self._memory, HEADER_WORDS)
        if self._words[MAGIC_AT] != MAGIC or self._words[VERSION_AT] != VERSION:
            raise ValueError(f"{path.name} is no ring of rows of version {VERSION}")
        self._slots, self._columns = self._words[SLOTS_AT], self._words[COLUMNS_AT]
        size, start = self._words[SLOT_BYTES_AT], self._words[START_AT]
        if size != slot_bytes(self._columns) or start + self._slots * size > len(self._memory):
            raise ValueError(f"{path.name} is shorter than its header says")
        dtype = np.dtype([*_FIELDS, ("norms", "<f8", (self._columns,))])
        self._rows = np.frombuffer(self._memory, dtype, self._slots, start)
        length = int.from_bytes(self._memory[TENSORS_AT : TENSORS_AT + WORD], "little")
        fields = json.loads(bytes(self._memory[TENSORS_AT + WORD : TENSORS_AT + WORD + length]))
        self.tensors = tuple(from_builtins(each, TensorInfo) for each in fields)
        """The ring's columns."""
        self.taken = 0
        """Rows that were read or lost."""
        self.lost = 0
        """Rows that the writer lapped before they were read."""

    def head(self) -> int:
        """Return how many rows have been written."""
        return self._words[HEAD_AT]

    @property
    def is_done(self) -> bool:
        """Whether another ring goes on and this one is read to its end."""
        return bool(self._words[SUCCEEDED_AT]) and self.taken >= self._words[HEAD_AT]

    def take(self, limit: int | None = None) -> Slots:
        """Return the rows written since the last call, in order.

        Args:
            limit: Take none beyond this count of rows; None for all.
        """
        head = self.head() if limit is None else min(limit, self.head())
        first = max(self.taken, head - self._slots)
        copied = self._rows[np.arange(first, head) % self._slots]
        # What was overwritten while it was being copied, the slot at hand included.
        lapped = min(max(0, self.head() - self._slots + 1 - first), head - first)
        self.lost += first + lapped - self.taken
        self.taken = head
        return _slots_of(copied[lapped:])


def _slots_of(rows: NDArray[np.void]) -> Slots:
    norms: NDArray[np.float64] = rows["norms"]
    present = np.ascontiguousarray(norms).view(np.uint64) != np.uint64(ABSENT_BITS)
    return Slots(
        step=rows["step"],
        flags=rows["flags"],
        numbers=rows["numbers"],
        skipped=rows["skipped"],
        norms=norms,
        present=present.reshape(norms.shape),
    )
