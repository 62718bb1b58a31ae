"""Line-by-line JSON files of a run: symptoms.jsonl and treatments.jsonl."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from gainstage.facts.codec import from_json, json_safe, to_json

Fact = TypeVar("Fact")


def write_json(path: Path, value: object) -> None:
    """Write `value` to a file as `write_text` does."""
    write_text(path, to_json(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file; readers see the old content or the new one, never half of it.

    Raises:
        OSError: If it cannot be written; the old content stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def append_line(path: Path, obj: Mapping[str, Any]) -> None:
    """Append `obj` to the file at `path` as one line of JSON, in one write.

    Raises:
        OSError: If the line could not be written whole.
    """
    line = json.dumps(json_safe(obj), allow_nan=False).encode() + b"\n"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            # A line before this one was torn; it must not take this one along.
            line = b"\n" + line
        written = os.write(descriptor, line)
    finally:
        os.close(descriptor)
    if written != len(line):
        raise OSError(f"only {written} of {len(line)} bytes of a line reached {path}")


def read_lines(path: Path) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return the objects in the file at `path`, and in words what of it could not be read.

    A file that is not there has no lines and no damage. A line that is being written, or whose
    writer was killed, is left out.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], ()
    except OSError as error:
        return [], (f"{path.name} cannot be read: {error.strerror}",)
    objects: list[dict[str, Any]] = []
    damage: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            parsed: object = json.loads(line)
        except (ValueError, RecursionError):
            parsed = None
        if isinstance(parsed, dict):
            objects.append(cast("dict[str, Any]", parsed))
        else:
            what = "is torn" if number == len(lines) else "is not a JSON object"
            damage.append(f"{path.name}: line {number} {what} and is left out")
    return objects, tuple(damage)


def read_facts(
    path: Path, decode: Callable[[dict[str, Any]], Fact]
) -> tuple[tuple[Fact, ...], tuple[str, ...]]:
    """Return the facts in the lines of a file, and in words what of it could not be read.

    Args:
        path: Of the file.
        decode: Returns the fact of a line, and raises ValueError if it is none.
    """
    lines, notes = read_lines(path)
    facts: list[Fact] = []
    damage: list[str] = []
    for line in lines:
        try:
            facts.append(decode(line))
        except ValueError as error:
            damage.append(f"{path.name}: a line is left out: {error}")
    return tuple(facts), (*notes, *damage)


def read_fact(path: Path, fact: type[Fact]) -> tuple[Fact | None, tuple[str, ...]]:
    """Return the fact that a file holds, and in words what could not be read.

    None where there is no such file, or it holds something else.
    """
    try:
        return from_json(path.read_bytes(), fact), ()
    except FileNotFoundError:
        return None, ()
    except OSError as error:
        return None, (f"{path.name} cannot be read: {error.strerror}",)
    except ValueError as error:
        return None, (f"{path.name} cannot be read: {error}",)
