"""`overflow-forecast` of what operations put out, where their largest values climb to the limit.

The series of a site is its largest magnitude on sampled steps. It is reported once less than a
quarter of float16's range is left (of the others' 16 bits), or it has grown by 16 bits while it was
beyond 2^32, and, with 80% probability, nothing will be left before the run is twice as long: what
levels off as a training settles is not.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from gainstage.bits import LARGEST
from gainstage.detect.kind.symptom_kind import Signal, Signals
from gainstage.detect.level.headroom_low import outputs_below
from gainstage.detect.level.overflow_evidence import forecast_evidence
from gainstage.detect.series.forecast import Forecast, forecast
from gainstage.facts.blocks import ProfileBlock

_FOLLOWED_BITS = {"float16": 8.0, "bfloat16": 96.0, "float32": 96.0}
_GROWN_BITS = 16.0
_NEAR_BITS = {"float16": 4.0, "bfloat16": 16.0, "float32": 16.0}
_SAMPLES = 32
_FEWEST = 7
_MOST_SITES = 512


@dataclass(slots=True)
class OutputSeries:
    """State: steps and largest magnitudes in bits, by site and dtype, of what is near."""

    series: dict[tuple[int, str], deque[tuple[int, float]]] = field(
        default_factory=dict[tuple[int, str], deque[tuple[int, float]]]
    )
    is_reported: bool = False


def update(state: OutputSeries, block: ProfileBlock) -> tuple[OutputSeries, Signals]:
    """Return a signal of the output of a sampled graph that will be the first to overflow."""
    if state.is_reported or not len(block):
        return state, ()
    step = int(block.step[0])
    found: list[tuple[Forecast, str, int]] = []
    for dtype, followed in _FOLLOWED_BITS.items():
        rows = np.flatnonzero(outputs_below(block, dtype, followed) & (block.site >= 0))
        for site in np.unique(block.site[rows]).tolist():
            largest = float(block.forward_max_bits[rows[block.site[rows] == site]].max())
            seen = _forecast_of_site(state, step, site, dtype, largest)
            found += [] if seen is None else [(seen, dtype, site)]
    if not found:
        return state, ()
    state.is_reported = True
    first, dtype, site = min(found, key=lambda each: each[0].step)
    evidence = forecast_evidence(first, "output", dtype=dtype, site=site)
    return state, (Signal(evidence=evidence, severity="warning", step=step, last_step=step),)


def _forecast_of_site(
    state: OutputSeries, step: int, site: int, dtype: str, largest: float
) -> Forecast | None:
    series = state.series.get((site, dtype))
    if series is None:
        if len(state.series) >= _MOST_SITES:
            return None
        series = state.series[site, dtype] = deque(maxlen=_SAMPLES)
    if series and series[-1][0] == step:  # another backward call of the step
        largest = max(largest, series.pop()[1])
    series.append((step, largest))
    limit = math.log2(LARGEST[dtype])
    is_near = limit - largest <= _NEAR_BITS[dtype] or largest - series[0][1] >= _GROWN_BITS
    if not is_near or len(series) < _FEWEST:
        return None
    seen = forecast([at for at, _ in series], [bits for _, bits in series], limit)
    return None if seen is None or seen.latest > 2 * step else seen
