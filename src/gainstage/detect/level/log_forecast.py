"""`overflow-forecast` of logarithms: when their smallest argument will have shrunk to 0.

The series of a logarithm is its smallest argument so far, in bits, on sampled steps. It is reported
once a third of the bits is left and, with 80% probability, none will be before the run is twice
as long.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from gainstage.detect.kind.symptom_kind import Signal, Signals
from gainstage.detect.level.overflow_evidence import forecast_evidence
from gainstage.detect.series.forecast import forecast
from gainstage.facts.observation import LogNearZero, Observation, Observed

_SAMPLES = 32
_FEWEST = 4
_MOST_PLACES = 64
_NEAR = 1 / 3

Place = tuple[str | None, int | None, float]
"""File, line and limit: a line may hold the logarithms of p and of 1 - p."""


@dataclass(slots=True)
class LogSeries:
    """State: steps and bits by place."""

    series: dict[Place, deque[tuple[int, float]]] = field(
        default_factory=dict[Place, deque[tuple[int, float]]]
    )
    is_reported: bool = False


def update(state: LogSeries, seen: Observation[Observed]) -> tuple[LogSeries, Signals]:
    """Return the signal of an observation, none where it is of something else."""
    if not isinstance(seen.evidence, LogNearZero) or state.is_reported:
        return state, ()
    bits, limit = seen.evidence.bits, seen.evidence.limit_bits
    place = (seen.file, seen.line, limit)
    series = state.series.get(place)
    if series is None:
        if len(state.series) >= _MOST_PLACES:
            return state, ()
        series = state.series[place] = deque(maxlen=_SAMPLES)
    series.append((seen.step, bits))
    if limit - bits > _NEAR * limit or len(series) < _FEWEST:
        return state, ()
    ahead = forecast([step for step, _ in series], [each for _, each in series], limit)
    if ahead is None or ahead.latest > 2 * seen.step:
        return state, ()
    state.is_reported = True
    evidence = forecast_evidence(ahead, "logarithm", argument_bits=bits, line=seen.line)
    signal = Signal(evidence=evidence, severity="warning", step=seen.step, last_step=seen.step)
    return state, (signal,)
