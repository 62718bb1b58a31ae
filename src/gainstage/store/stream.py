"""One growing table on disk: `live.arrows`, and the segments that it became before.

The live file is an Arrow IPC stream, written by hand: a schema message, then a message for each
batch, each in one write. So there is nothing in a buffer that a fork could write twice, and the
last good byte is always known. A full live file is rewritten as a segment, an Arrow IPC file with
one batch, which is one dense array in a memory map.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# (PyArrow comes without types; what leaves this file has them.)

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections import deque
from pathlib import Path

import pyarrow as pa

LIVE = "live.arrows"
SEGMENT_BYTES = 64 * 2**20
SEGMENT_BATCHES = 4096
"""A slow run writes one row a batch, nearly all of it headers; as a segment it is a tenth."""
HELD_BYTES = 8 * 2**20


class Stream:
    """The writing end of one table. Errors are returned, not raised: a run must go on."""

    def __init__(
        self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES, retry_s: float = 5.0
    ) -> None:
        """Prepare to write into `folder`, which is made when the first batch comes.

        Args:
            folder: Where the files go; no other process writes there.
            segment_bytes: The size at which a live file becomes a segment.
            retry_s: How long to leave the disk alone after an error.
        """
        self.folder = folder
        self.lost_rows = 0
        self._segment_bytes = segment_bytes
        self._retry_s = retry_s
        self._retry_at = -float("inf")
        self._held: deque[pa.RecordBatch] = deque()
        self._descriptor: int | None = None
        self._schema: pa.Schema | None = None
        self._size = 0
        self._batches = 0
        self._segments = 0
        self._made = False

    def append(self, batch: pa.RecordBatch) -> Exception | None:
        """Write `batch`, after those that an error kept back; return the error if there is one.

        What cannot be written is held, the newest 8 MB of it, and tried again after `retry_s`.
        """
        self._held.append(batch)
        if time.monotonic() < self._retry_at:
            self._forget_oldest()
            return None
        return self._write_held()

    def close(self) -> Exception | None:
        """Write what is held and turn the live file into a segment; return the first error."""
        error = self._write_held() if self._held else None
        self.lost_rows += sum(batch.num_rows for batch in self._held)
        self._held.clear()
        try:
            self._seal(durable=False)
        except (OSError, pa.ArrowException) as failure:
            error = error or failure
        self._forget_live()
        return error

    def _write_held(self) -> Exception | None:
        try:
            while self._held:
                self._write(self._held[0])
                self._held.popleft()
        except (OSError, pa.ArrowException) as error:
            self._cut_to_last_good()
            self._forget_oldest()
            self._retry_at = time.monotonic() + self._retry_s
            return error
        return None

    def _write(self, batch: pa.RecordBatch) -> None:
        if self._descriptor is not None and not self._live_is_ours():
            self._forget_live()
            raise OSError(errno.ENOENT, "was removed while it was being written")
        if self._is_full() or self._schema is not batch.schema and self._schema != batch.schema:
            self._seal(durable=True)
        if self._descriptor is None:
            self._begin(batch)
            return
        _write_all(self._descriptor, batch.serialize(), self._size)
        self._size += batch.get_total_buffer_size() and _end(self._descriptor, self._size)
        self._batches += 1
