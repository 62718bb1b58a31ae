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
            self._seal()
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
        if self._is_full() or self._schema != batch.schema:
            self._seal()
        message = batch.serialize()
        if self._descriptor is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._descriptor = os.open(self.folder / LIVE, flags, 0o666)
            self._schema, self._size, self._batches = batch.schema, 0, 0
            self._size = _write_all(self._descriptor, batch.schema.serialize(), 0)
        self._size = _write_all(self._descriptor, message, self._size)
        self._batches += 1

    def _is_full(self) -> bool:
        return self._size >= self._segment_bytes or self._batches >= SEGMENT_BATCHES

    def _live_is_ours(self) -> bool:
        assert self._descriptor is not None
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self.folder / LIVE))
        except FileNotFoundError:
            return False

    def _seal(self) -> None:
        """Turn the live file into the next segment. Killed half-way, nothing is lost.

        The segment appears whole, by a rename; if the live file is still there after it, a reader
        leaves out the rows that it has seen.
        """
        if self._descriptor is None or self._batches == 0:
            self._forget_live()
            return
        with pa.memory_map(str(self.folder / LIVE)) as source:
            table = pa.ipc.open_stream(source).read_all().combine_chunks()
        while (path := self.folder / segment_name(self._segments)).exists():
            self._segments += 1
        temporary = path.with_suffix(".tmp")
        try:
            with (
                pa.OSFile(str(temporary), "wb") as sink,
                pa.ipc.new_file(sink, table.schema) as writer,
            ):
                writer.write_table(table)
            os.replace(temporary, path)
        except (OSError, pa.ArrowException):
            temporary.unlink(missing_ok=True)
            raise
        self._segments += 1
        (self.folder / LIVE).unlink(missing_ok=True)
        self._forget_live()

    def _cut_to_last_good(self) -> None:
        """Take a half-written batch off the live file, so that it stays readable to its end."""
        if self._descriptor is None:
            return
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError:
            self._forget_live()
            return
        if self._size == 0:
            self._forget_live()

    def _forget_live(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self._schema, self._size, self._batches = None, None, 0, 0

    def _forget_oldest(self) -> None:
        held = sum(batch.nbytes for batch in self._held)
        while held > HELD_BYTES and len(self._held) > 1:
            oldest = self._held.popleft()
            held -= oldest.nbytes
            self.lost_rows += oldest.num_rows


def segment_name(number: int) -> str:
    """Return the name of a table's segment file."""
    return f"seg-{number:05d}.arrow"


def read_table(folder: Path) -> tuple[list[pa.RecordBatch], list[str]]:
    """Return the batches of a table, oldest first, and in words what could not be read.

    Segments are memory maps, so nothing is read before it is used. Of a live file whose writer was
    killed, all whole batches are returned.
    """
    batches: list[pa.RecordBatch] = []
    damage: list[str] = []
    for path in sorted(folder.glob("seg-*.arrow")):
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            batches += [reader.get_batch(i) for i in range(reader.num_record_batches)]
        except (OSError, pa.ArrowException) as error:
            damage.append(f"{path.name} cannot be read and is left out: {_one_line(error)}")
    last = _last_step(batches)
    live, note = _read_live(folder / LIVE)
    damage += note
    for batch in live:
        if batch.num_rows and batch.column(0)[batch.num_rows - 1].as_py() > last:
            batches.append(batch)
    return batches, damage


def _read_live(path: Path) -> tuple[list[pa.RecordBatch], list[str]]:
    batches: list[pa.RecordBatch] = []
    try:
        if path.stat().st_size == 0:
            return [], []
        # Read, not mapped: the writer may cut the file while it is being used.
        reader = pa.ipc.open_stream(pa.py_buffer(path.read_bytes()))
    except FileNotFoundError:
        return [], []
    except (OSError, pa.ArrowException) as error:
        return [], [f"{path.name} cannot be read and is left out: {_one_line(error)}"]
    while True:
        try:
            batches.append(reader.read_next_batch())
        except StopIteration:
            return batches, []
        except (OSError, pa.ArrowException):
            return batches, [f"{path.name} ends within a batch, which is left out"]


def _last_step(batches: list[pa.RecordBatch]) -> int:
    filled = [batch for batch in batches if batch.num_rows]
    return filled[-1].column(0)[filled[-1].num_rows - 1].as_py() if filled else -1


def _write_all(descriptor: int, message: pa.Buffer, offset: int) -> int:
    """Write at `offset`, and return where the next message begins."""
    view = memoryview(message)
    while len(view):
        written = os.pwrite(descriptor, view, offset)
        offset += written
        view = view[written:]
    return offset


def _one_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
