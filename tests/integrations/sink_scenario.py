"""Writes what every sink must take: `python sink_scenario.py KIND PLACE first|again|blocked`.

A process of its own: packages of other tools leave threads, handlers and settings behind.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np

from gainstage.facts.run_info import RunInfo
from gainstage.integrations.sinks import SinkSpec, open_sink
from gainstage.store.series import Series, SeriesBlock

LOSS, NORM, SKIPPED = Series("loss"), Series("grad_norm", "net.0.weight"), Series("skipped")
FIRST: dict[Series, dict[int, float]] = {
    LOSS: {0: 1.0, 1: 0.5, 2: math.nan, 3: math.inf, 4: -math.inf, 6: 0.1, 7: 1e-30},
    NORM: {4: 3.25, 5: 2.0, 7: math.nan},
    SKIPPED: {0: 0.0, 5: 1.0},
}
"""By series, the values at their steps: some are not finite, some steps have none."""
AGAIN = {LOSS: {10: 0.25}}
INFO = RunInfo(script="train.py", host="here")


def block_of(rows: dict[Series, dict[int, float]], steps: range) -> SeriesBlock:
    """Return the values of some steps; of series that have none there, no column."""
    series = tuple(name for name, values in rows.items() if not values.keys().isdisjoint(steps))
    values = np.array([[rows[name].get(step, 0.0) for name in series] for step in steps])
    given = np.array([[step in rows[name] for name in series] for step in steps])
    return SeriesBlock(np.array(steps), 1e9 + np.array(steps), series, values, given)


def write(kind: str, place: Path, rows: dict[Series, dict[int, float]], steps: range) -> None:
    """Send rows block by block, with an empty block between, and close twice."""
    sink = open_sink(SinkSpec(kind, place), INFO)
    for start in range(steps.start, steps.stop, 4):
        sink.write(block_of(rows, range(start, min(start + 4, steps.stop))))
        sink.write(block_of({}, range(0)))
    sink.close()
    sink.close()


def main() -> None:
    """Play one act of the scenario."""
    kind, place, act = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    if act == "first":
        write(kind, place, FIRST, range(8))
    elif act == "again":
        write(kind, place, AGAIN, range(10, 11))
    else:
        try:
            write(kind, place, FIRST, range(8))
        except Exception as error:
            print(json.dumps([type(error).__name__, str(error)]))


if __name__ == "__main__":
    main()
