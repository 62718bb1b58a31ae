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
from pathlib import Path
from typing import Any, TextIO

from gainstage.integrations.sinks import Sink, SinkSpec, open_sink, parse_sink
from gainstage.store.folder import read_run_info
from gainstage.store.series_line import parse_line


def feed(lines: TextIO, said: TextIO) -> int:
    """Open the sinks that the first line names, give them the others, and close them.

    Returns:
        The exit code: 1 if a sink was dropped.
    """
    first: dict[str, Any] = json.loads(lines.readline())
    specs = [parse_sink(text) for text in first["sinks"]]
    info = read_run_info(Path(first["folder"]))
    sinks: dict[SinkSpec, Sink] = {}
    failed = False

    def drop(spec: SinkSpec, error: Exception) -> None:
        nonlocal failed
        failed = True
        sinks.pop(spec, None)
        why = str(error).strip().splitlines() or [type(error).__name__]
        print(
            f"gainstage: sink {spec.as_text()} is dropped, training goes on: {why[0]}",
            file=said,
            flush=True,
        )

    for spec in specs:
        try:
            sinks[spec] = open_sink(spec, info)
        except Exception as error:  # the packages raise what they like
            drop(spec, error)
    for line in lines:
        block, symptoms = parse_line(line)
        for spec, sink in list(sinks.items()):
            try:
                sink.write(block, symptoms)
            except Exception as error:
                drop(spec, error)
    for spec, sink in list(sinks.items()):
        try:
            sink.close()
        except Exception as error:
            drop(spec, error)
    return 1 if failed else 0


if __name__ == "__main__":
    # What packages say of themselves is no message of the training's.
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    sys.exit(feed(sys.stdin, sys.stderr))
