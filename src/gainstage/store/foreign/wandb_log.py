"""Rows of an offline run of Weights & Biases, a `.wandb` file, without its package.

Newer packages have no reader in Python. The file is a LevelDB log: after seven bytes of its own,
blocks of 32 KiB hold records, cut at the blocks' ends; each is a protobuf message `Record`. Source:
github.com/google/leveldb/blob/main/doc/log_format.md, wandb/proto/wandb_internal.proto.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from gainstage.errors import ConfigError
from gainstage.store.foreign.rows import Rows, numbers

_START = b":W&B\xe1\xbe\x00"
_BLOCK = 32768
_HEADER = 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_HISTORY, _ITEM = 2, 1
_KEY, _NESTED_KEY, _VALUE = 1, 2, 16
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_wandb(path: Path) -> Rows:
    """Return the history of an offline run; a record torn at the end is left out.

    Args:
        path: The `.wandb` file, or the run's folder with one in it.

    Raises:
        ConfigError: If there is no such file, or it is damaged.
    """
    if path.is_dir():
        files = sorted(path.glob("*.wandb"))
        if len(files) != 1:
            raise ConfigError(f"{str(path)!r} holds {len(files)} .wandb files; name one")
        path = files[0]
    data = path.read_bytes()
    if not data.startswith(_START):
        raise ConfigError(f"{str(path)!r} is no .wandb file: it does not begin with ':W&B'")
    rows: Rows = []
    try:
        for record in _records(data):
            rows += [_row(part) for field, part in _fields(record) if field == _HISTORY]
    except (ValueError, IndexError, RecursionError) as error:
        raise ConfigError(f"{str(path)!r} is damaged: {error}") from error
    return [row for row in rows if row]


def _records(data: bytes) -> Iterator[bytes]:
    at, parts = len(_START), b""
    while at + _HEADER <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _HEADER:
            at += left  # too little for a header: zeros up to the next block
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        part = data[at + _HEADER : at + _HEADER + length]
        if kind == 0 or len(part) < length:
            return  # space taken but not written yet, or torn
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST):
            raise ValueError(f"no record begins at byte {at}")
        parts = part if kind in (_FULL, _FIRST) else parts + part
        if kind in (_FULL, _LAST):
            yield parts
        at += _HEADER + length


def _row(history: bytes) -> dict[str, float]:
    cells: dict[str, object] = {}
    for field, part in _fields(history):
        if field == _ITEM:
            key, value = "", b"null"
            for inner, held in _fields(part):
                if inner in (_KEY, _NESTED_KEY):
                    key = "/".join(filter(None, (key, held.decode())))
                elif inner == _VALUE:
                    value = held
            cells[key] = json.loads(value)
    return numbers(cells)


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the fields of a protobuf message that hold bytes, with their numbers."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            _, at = _varint(message, at)
        elif kind == _BYTES:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise ValueError("a field is longer than its message")
            yield tag >> 3, message[at : at + length]
            at += length
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"no protobuf field of kind {kind}")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
