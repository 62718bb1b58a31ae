"""A table on disk, followed while it grows: what was read once is not read again."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# (PyArrow comes without types; what leaves this file has them.)

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa

from gainstage.store.stream import LIVE

_MANY = 64
"""A slow run writes a row a batch: so many of them become one, or each look would cost more."""


class Followed:
    """The reading end of `stream.Stream`, kept open: segments as memory maps, and the live rows.

    Not for several threads at once. What cannot be read is left out, as `read_table` does.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.batches: list[pa.RecordBatch] = []
        """Oldest first; no step twice."""
        self._segments: dict[str, list[pa.RecordBatch]] = {}
        self._live = _Live(folder / LIVE)

    def refresh(self) -> bool:
        """Read what was written since the last time; tell whether there was anything."""
        changed = self._look()
        # A live file that became a segment in between would be missed in both places.
        while self._names() != sorted(self._segments):
            changed |= self._look()
        return changed

    def _look(self) -> bool:
        names = self._names()
        is_sealed = names != sorted(self._segments)
        if is_sealed:
            known = self._segments
            self._segments = {
                name: known[name] if name in known else _read_segment(self.folder / name)
                for name in names
            }
            # A new live file may have the number of the old one.
            self._live.forget()
        if not self._live.read() and not is_sealed:
            return False
        sealed = [batch for name in names for batch in self._segments[name] if batch.num_rows]
        last = _last_step(sealed[-1]) if sealed else -1
        # Right after a seal the live file may still be there beside its segment.
        younger = [each for each in self._live.batches if _last_step(each) > last]
        self.batches = [*sealed, *younger]
        return True

    def _names(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("seg-*.arrow"))


class _Live:
    """The live file, of which only whole messages are taken."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.batches: list[pa.RecordBatch] = []
        self.forget()

    def read(self) -> bool:
        """Take in new batches; tell whether there is any, or fewer than before."""
        had = len(self.batches)
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self.forget()
                    self._inode = status.st_ino
                file.seek(self._offset)
                new = self._whole(file.read())
        except OSError:
            self.forget()
            return had > 0
        is_other = len(self.batches) < had
        self.batches += [each for each in new if each.num_rows]
        self._join()
        return bool(new) or is_other

    def forget(self) -> None:
        """Begin anew."""
        self.batches.clear()
        self._schema: pa.Schema | None = None
        self._inode, self._offset, self._small = -1, 0, 0

    def _whole(self, data: bytes) -> list[pa.RecordBatch]:
        source = pa.BufferReader(data)
        batches: list[pa.RecordBatch] = []
        good = 0
        while True:
            try:
                message = pa.ipc.read_message(source)
                if message.type == "schema":
                    self._schema = pa.ipc.read_schema(message)
                else:
                    batches.append(pa.ipc.read_record_batch(message, self._schema))
            except (EOFError, OSError, TypeError, pa.ArrowException):
                # The end, or a message that is still being written.
                self._offset += good
                return batches
            good = source.tell()

    def _join(self) -> None:
        if len(self.batches) - self._small < _MANY:
            return
        young = pa.Table.from_batches(self.batches[self._small :]).combine_chunks()
        self.batches[self._small :] = young.to_batches()
        self._small = len(self.batches)


def _read_segment(path: Path) -> list[pa.RecordBatch]:
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        return [reader.get_batch(i) for i in range(reader.num_record_batches)]
    except (OSError, pa.ArrowException):
        return []


def _last_step(batch: pa.RecordBatch) -> int:
    return batch.column(0)[batch.num_rows - 1].as_py()
