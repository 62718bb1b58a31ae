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
from dataclasses import asdict
from pathlib import Path

from gainstage.channel.memory import WORD, create, words_of
from gainstage.facts.rows import Row
from gainstage.facts.tensor import TensorInfo

MAGIC = int.from_bytes(b"GAINRING", "little")
VERSION = 1
MAGIC_AT, VERSION_AT, SLOTS_AT, COLUMNS_AT = range(4)
SLOT_BYTES_AT, START_AT, HEAD_AT, SUCCEEDED_AT = range(4, 8)
"""Where they stand in the header, in words of 8 bytes."""
HEADER_WORDS = 16
TENSORS_AT = HEADER_WORDS * WORD
"""Byte at which the length of their description stands, and then that: JSON."""

_FIXED = struct.Struct("<qqddddddq")
"""step, flags, time, loss, lr, grad_norm, max_norm, clip_coefficient, skipped."""
HAS_LOSS, IS_WEIGHTS = 1, 2

RING_BYTES = 16 * 2**20
FEWEST_SLOTS, _MOST_SLOTS = 64, 32_768

ABSENT_BITS = 0x7FF8_0A5E_0000_0000
"""Of the NaN that stands for a gradient that is not there; arithmetic never makes it."""
ABSENT: float = struct.unpack("<d", ABSENT_BITS.to_bytes(8, "little"))[0]


def slots_for(columns: int) -> int:
    """Return how many rows of so many tensors a ring holds."""
    return max(FEWEST_SLOTS, min(_MOST_SLOTS, RING_BYTES // slot_bytes(columns)))


def slot_bytes(columns: int) -> int:
    """Return how long a slot for so many tensors is."""
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
        self._size = slot_bytes(self._columns)
        self._slots = slots_for(self._columns) if slots is None else slots
        text = json.dumps([asdict(each) for each in tensors]).encode()
        start = -(-(TENSORS_AT + WORD + len(text)) // mmap.PAGESIZE) * mmap.PAGESIZE
        self._memory = create(path, start + self._slots * self._size)
        self._words = words_of(self._memory, HEADER_WORDS)
        self._memory[TENSORS_AT : TENSORS_AT + WORD] = len(text).to_bytes(WORD, "little")
        self._memory[TENSORS_AT + WORD : TENSORS_AT + WORD + len(text)] = text
        header = (VERSION, self._slots, self._columns, self._size, start, 0, 0)
        for place, value in enumerate(header, start=1):
            self._words[place] = value
        self._words[MAGIC_AT] = MAGIC
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
        self._head = self._words[HEAD_AT] = head + 1

    def append_weights(self, step: int, norms: Sequence[float | None]) -> None:
        """Write the 2-norms of the parameters before a step."""
        offset = self._start + self._head % self._slots * self._size
        fixed = (step, IS_WEIGHTS, *([math.nan] * 6), 0)
        self._pack(self._memory, offset, *fixed, *self._filled(norms))
        self._head = self._words[HEAD_AT] = self._head + 1

    def succeed(self) -> None:
        """Note that the rows go on in another ring, which is made already."""
        self._words[SUCCEEDED_AT] = 1

    def _filled(self, norms: Sequence[float | None]) -> list[float]:
        """Return as many norms as the ring has columns, with `ABSENT` for those not there."""
        there = [ABSENT if norm is None else norm for norm in norms[: self._columns]]
        return [*there, *[ABSENT] * (self._columns - len(there))]
