"""The ring of rows: one slot of fixed size a step, in memory that two processes map.

The writer fills a slot and then raises `head`, by one aligned store of 8 bytes: a row counts once
it is whole, and a process that is killed has lost nothing that it had finished. The reader copies
rows up to `head` and looks again: what the writer has lapped meanwhile is left out and counted.
"""

from __future__ import annotations

import json
import math
import mmap
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gainstage.channel.memory import WORD, create, open_mapped, words_of
from gainstage.facts.codec import from_builtins
from gainstage.facts.rows import Row
from gainstage.facts.tensor import TensorInfo

MAGIC = int.from_bytes(b"GAINRING", "little")
VERSION = 1
_MAGIC, _VERSION, _SLOTS, _COLUMNS, _SLOT_BYTES, _START, _HEAD, _SUCCEEDED = range(8)
_WORDS = 16
_TEXT = _WORDS * WORD

_FIXED = struct.Struct("<qqddddddq")
"""step, flags, time, loss, lr, grad_norm, max_norm, clip_coefficient, skipped."""
_FIELDS = [("step", "<i8"), ("flags", "<i8"), ("numbers", "<f8", 6), ("skipped", "<i8")]
"""The same for NumPy."""
HAS_LOSS, IS_WEIGHTS = 1, 2

RING_BYTES = 16 * 2**20
FEWEST_SLOTS, _MOST_SLOTS = 64, 32_768

ABSENT_BITS = 0x7FF8_0A5E_0000_0000
"""Of the NaN that stands for a gradient that is not there; arithmetic never makes it."""
ABSENT: float = struct.unpack("<d", ABSENT_BITS.to_bytes(8, "little"))[0]


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


def slots_for(columns: int) -> int:
    """Return how many rows of so many tensors a ring holds."""
    return max(FEWEST_SLOTS, min(_MOST_SLOTS, RING_BYTES // _slot_bytes(columns)))


def _slot_bytes(columns: int) -> int:
    return _FIXED.size + columns * WORD


class RowWriter:
    """The writing end of a ring. One thread writes; nothing here waits or allocates in bulk."""

    def __init__(self, path: Path, tensors: Sequence[TensorInfo], slots: int | None = None) -> None:
        """Make the ring's file.

        Args:
            path: Where; no such file exists.
            tensors: The watched parameters: the ring's columns.
            slots: Rows that it holds; None for a number by the size of a row.

        Raises:
            OSError: If there is no room for it.
        """
        self._columns = len(tensors)
        self._size = _slot_bytes(self._columns)
        self._slots = slots_for(self._columns) if slots is None else slots
        text = json.dumps([asdict(each) for each in tensors]).encode()
        start = -(-(_TEXT + WORD + len(text)) // mmap.PAGESIZE) * mmap.PAGESIZE
        self._memory = create(path, start + self._slots * self._size)
        self._words = words_of(self._memory, _WORDS)
        self._memory[_TEXT : _TEXT + WORD] = len(text).to_bytes(WORD, "little")
        self._memory[_TEXT + WORD : _TEXT + WORD + len(text)] = text
        header = (VERSION, self._slots, self._columns, self._size, start, 0, 0)
        for place, value in enumerate(header, start=1):
            self._words[place] = value
        self._words[_MAGIC] = MAGIC
        self._start = start
        self._head = 0
        self._pack = struct.Struct(f"<qqddddddq{self._columns}d").pack_into

    def append(self, row: Row) -> None:
        """Write the row of one step. Runs on every step, so all of it stands here."""
        step, time, loss, lr, total, max_norm, coefficient, skipped, norms = row
        head, nan = self._head, math.nan
        offset = self._start + head % self._slots * self._size
        fixed = (
            step,
            0 if loss is None else HAS_LOSS,
            time,
            nan if loss is None else loss,
            nan if lr is None else lr,
            nan if total is None else total,
            nan if max_norm is None else max_norm,
            nan if coefficient is None else coefficient,
            skipped,
        )
        try:
            self._pack(self._memory, offset, *fixed, *norms)
        except struct.error:
            # A gradient that is not there, or a row from before a tensor was known. Asking each
            # norm on every step would cost more.
            self._pack(self._memory, offset, *fixed, *self._filled(norms))
        self._head = self._words[_HEAD] = head + 1

    def append_weights(self, step: int, norms: Sequence[float | None]) -> None:
        """Write the 2-norms of the parameters before a step."""
        offset = self._start + self._head % self._slots * self._size
        fixed = (step, IS_WEIGHTS, *([math.nan] * 6), 0)
        self._pack(self._memory, offset, *fixed, *self._filled(norms))
        self._head = self._words[_HEAD] = self._head + 1

    def succeed(self) -> None:
        """Note that the rows go on in another ring, which is made already."""
        self._words[_SUCCEEDED] = 1

    def _filled(self, norms: Sequence[float | None]) -> list[float]:
        """Return as many norms as the ring has columns, with `ABSENT` for those not there."""
        there = [ABSENT if norm is None else norm for norm in norms[: self._columns]]
        return [*there, *[ABSENT] * (self._columns - len(there))]


class RowReader:
    """The reading end of a ring, in the observer or in whoever recovers a run."""

    def __init__(self, path: Path) -> None:
        """Open a ring.

        Raises:
            OSError: If it is not there.
            ValueError: If it is no ring, or not complete yet.
        """
        self._memory = open_mapped(path)
        if len(self._memory) < _TEXT + WORD:
            raise ValueError(f"{path.name} is too short for a ring of rows")
        self._words = words_of(self._memory, _WORDS)
        if self._words[_MAGIC] != MAGIC or self._words[_VERSION] != VERSION:
            raise ValueError(f"{path.name} is no ring of rows of version {VERSION}")
        self._slots, self._columns = self._words[_SLOTS], self._words[_COLUMNS]
        size, start = self._words[_SLOT_BYTES], self._words[_START]
        if size != _slot_bytes(self._columns) or start + self._slots * size > len(self._memory):
            raise ValueError(f"{path.name} is shorter than its header says")
        dtype = np.dtype([*_FIELDS, ("norms", "<f8", (self._columns,))])
        self._rows = np.frombuffer(self._memory, dtype, self._slots, start)
        length = int.from_bytes(self._memory[_TEXT : _TEXT + WORD], "little")
        fields = json.loads(bytes(self._memory[_TEXT + WORD : _TEXT + WORD + length]))
        self.tensors = tuple(from_builtins(each, TensorInfo) for each in fields)
        """The ring's columns."""
        self.taken = 0
        """Rows that were read or lost."""
        self.lost = 0
        """Rows that the writer lapped before they were read."""

    def head(self) -> int:
        """Return how many rows have been written."""
        return self._words[_HEAD]

    @property
    def is_done(self) -> bool:
        """Whether another ring goes on and this one is read to its end."""
        return bool(self._words[_SUCCEEDED]) and self.taken >= self._words[_HEAD]

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
