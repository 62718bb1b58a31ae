"""Rows of TensorBoard's event files, read by TensorBoard's own reader."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gainstage.errors import ConfigError
from gainstage.store.foreign.rows import Rows

_READER = "tensorboard.backend.event_processing.event_file_loader"


def read_tensorboard(path: Path) -> Rows:
    """Return the scalars of an event file, or of all event files in a folder, by step.

    Where a step was written twice, as after a restart, the later value counts.

    Raises:
        ConfigError: If tensorboard is not installed, or there is no event file that can be read.
    """
    files = sorted(path.glob("*tfevents*")) if path.is_dir() else [path]
    if not files:
        below = next((each.parent for each in path.rglob("*tfevents*")), None)
        hint = f"; there is one in {str(below)!r}" if below else ""
        raise ConfigError(f"{str(path)!r} holds no TensorBoard event file{hint}")
    by_step: dict[int, dict[str, float]] = {}
    for file in files:
        for step, time, tag, value in _scalars(file):
            by_step.setdefault(step, {"step": float(step)}).update({tag: value, "wall_time": time})
    return [by_step[step] for step in sorted(by_step)]


def _scalars(file: Path) -> Iterator[tuple[int, float, str, float]]:
    try:
        loader: Any = importlib.import_module(_READER)
        tensors: Any = importlib.import_module("tensorboard.util.tensor_util")
    except ImportError as error:
        raise ConfigError(
            "TensorBoard's event files are read by tensorboard, which is not installed: "
            "pip install 'gainstage[integrations]'"
        ) from error
    try:
        for event in loader.EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                if value.HasField("tensor"):
                    array = tensors.make_ndarray(value.tensor)
                    if array.size == 1 and array.dtype.kind in "fiu":
                        yield event.step, event.wall_time, value.tag, float(array.item())
    except ConfigError:
        raise
    except Exception as error:  # protobuf and the reader raise what they like for damaged files
        raise ConfigError(f"{str(file)!r} is no TensorBoard event file: {error}") from error
