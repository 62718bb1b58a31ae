"""TensorBoard: event files, written by its own package, without TensorFlow or torch."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gainstage.detect.symptom_json import message_of
from gainstage.facts.run_info import RunInfo
from gainstage.facts.symptom import Symptom
from gainstage.integrations.sinks.kind import SinkKind
from gainstage.store.series import SeriesBlock

_EVENTS_HELD = 10_000
"""For the thread of the package: at its default of 10 two threads take turns, event by event."""
_LARGEST = float(np.finfo(np.float32).max)


class TensorBoardSink:
    """An event file of its own in a folder: scalars, and symptoms as texts.

    Scalars of TensorBoard are float32. NaN and inf stay what they are; a finite value beyond
    float32, such as a total norm of 1e39, is written as the largest float32, 3.4e38.
    """

    def __init__(self, folder: Path) -> None:
        """Make the file."""
        writer: Any = importlib.import_module("tensorboard.summary.writer.event_file_writer")
        self._events: Any = importlib.import_module("tensorboard.compat.proto.event_pb2")
        self._summaries: Any = importlib.import_module("tensorboard.compat.proto.summary_pb2")
        self._texts: Any = importlib.import_module("tensorboard.plugins.text.metadata")
        self._tensors: Any = importlib.import_module("tensorboard.util.tensor_util")
        self._writer: Any = writer.EventFileWriter(
            str(folder), max_queue_size=_EVENTS_HELD, filename_suffix=".gainstage"
        )
        self._last_time = 0.0

    def write(self, block: SeriesBlock, symptoms: Sequence[Symptom] = ()) -> None:
        """Write an event a step, and one a symptom."""
        for step, time, values in block.rows():
            self._last_time = time
            scalars = [
                self._summaries.Summary.Value(tag=series.chart, simple_value=_narrowed(value))
                for series, value in values.items()
            ]
            self._add(step, time, scalars)
        for symptom in symptoms:
            said = f"{symptom.severity}: {message_of(symptom)}"
            text = self._summaries.Summary.Value(
                tag=f"gainstage/{symptom.symptom}",
                metadata=self._texts.create_summary_metadata(display_name="", description=""),
                tensor=self._tensors.make_tensor_proto(np.array([said.encode()], dtype=object)),
            )
            self._add(symptom.step, self._last_time, [text])
        self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()

    def _add(self, step: int, time: float, values: list[Any]) -> None:
        summary = self._summaries.Summary(value=values)
        self._writer.add_event(self._events.Event(wall_time=time, step=step, summary=summary))


def _narrowed(value: float) -> float:
    if abs(value) <= _LARGEST or not np.isfinite(value):
        return value
    return _LARGEST if value > 0 else -_LARGEST


def _open(folder: Path, info: RunInfo) -> TensorBoardSink:
    return TensorBoardSink(folder)


TENSORBOARD = SinkKind(
    name="tensorboard",
    title="TensorBoard",
    open=_open,
    place="folder",
    default="tensorboard",
    package="tensorboard",
    extra="integrations",
    loses="float32: a finite number beyond 3.4e38 is written as 3.4e38",
)
