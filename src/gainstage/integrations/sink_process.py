"""The process that feeds the sinks of a run: `python -m gainstage.integrations.sink_process`.

It reads lines of JSON from the training process: what to open, then blocks of series. The packages
of other tools set signal handlers and exit handlers, start threads and take seconds to import: a
training process must have none of that. At the end of the input, also when the training was
killed, the sinks are closed.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from gainstage.facts.run_info import RunInfo
from gainstage.facts.symptom import Symptom
from gainstage.integrations.sinks import SeriesSink, SinkSpec, open_sink, parse_sink
from gainstage.store.folder import read_run_info
from gainstage.store.series import SeriesBlock
from gainstage.store.series_line import parse_line


class OpenSinks:
    """The sinks of a run; one that fails is dropped with a line, and the others go on."""

    def __init__(self, errors: TextIO) -> None:
        """Begin with none.

        Args:
            errors: Takes a line for each sink that is dropped.
        """
        self._errors = errors
        self._sinks: dict[SinkSpec, SeriesSink] = {}
        self.any_dropped = False

    def add(self, spec: SinkSpec, info: RunInfo) -> None:
        """Open a sink."""
        try:
            self._sinks[spec] = open_sink(spec, info)
        except Exception as error:  # the packages raise what they like
            self._drop(spec, error)

    def write(self, block: SeriesBlock, symptoms: Sequence[Symptom]) -> None:
        """Give steps and symptoms to all."""
        self._each(lambda sink: sink.write(block, symptoms))

    def close(self) -> None:
        """Close all."""
        self._each(lambda sink: sink.close())

    def _each(self, act: Callable[[SeriesSink], None]) -> None:
        for spec, sink in list(self._sinks.items()):
            try:
                act(sink)
            except Exception as error:
                self._drop(spec, error)

    def _drop(self, spec: SinkSpec, error: Exception) -> None:
        self.any_dropped = True
        self._sinks.pop(spec, None)
        why = str(error).strip().splitlines() or [type(error).__name__]
        print(
            f"gainstage: sink {spec.as_text()} is dropped, training goes on: {why[0]}",
            file=self._errors,
            flush=True,
        )


def feed(lines: TextIO, errors: TextIO) -> int:
    """Open the sinks that the first line names, give them the others, and close them.

    Returns:
        The exit code: 1 if a sink was dropped.
    """
    first: dict[str, Any] = json.loads(lines.readline())
    info = read_run_info(Path(first["folder"]))
    sinks = OpenSinks(errors)
    for text in first["sinks"]:
        sinks.add(parse_sink(text), info)
    for line in lines:
        sinks.write(*parse_line(line))
    sinks.close()
    return 1 if sinks.any_dropped else 0


if __name__ == "__main__":
    # What packages say of themselves is no message of the training's.
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    sys.exit(feed(sys.stdin, sys.stderr))
