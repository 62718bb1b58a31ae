"""`overflow-forecast` of logarithms: when their smallest argument will have shrunk to 0.

The series of a logarithm is its smallest argument so far, in bits, on sampled steps. It is told
once a third of the bits is left and, with 80% probability, none will be before the run is twice
as long.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from gainstage.detect.level.overflow_forecast import forecast
from gainstage.detect.series.sign import Sign
from gainstage.facts.observation import LogNearZero, Observation, Observed

_SAMPLES = 32
_FEWEST = 4
_MOST_PLACES = 64
_NEAR = 1 / 3

Place = tuple[str | None, int | None, float]
"""File, line and limit: a line may hold the logarithms of p and of 1 - p."""


@dataclass(slots=True)
class Logs:
    """Online state: steps and bits by place."""

    series: dict[Place, deque[tuple[int, float]]] = field(
        default_factory=dict[Place, deque[tuple[int, float]]]
    )
    is_told: bool = False


def look(state: Logs, seen: Observation[Observed]) -> Sign | None:
    """Return the sign of an observation, None where it is of something else."""
    if not isinstance(seen.evidence, LogNearZero) or state.is_told:
        return None
    bits, limit = seen.evidence.bits, seen.evidence.limit_bits
    place = (seen.file, seen.line, limit)
    series = state.series.get(place)
    if series is None:
        if len(state.series) >= _MOST_PLACES:
            return None
        series = state.series[place] = deque(maxlen=_SAMPLES)
    series.append((seen.step, bits))
    if limit - bits > _NEAR * limit or len(series) < _FEWEST:
        return None
    ahead = forecast([step for step, _ in series], [each for _, each in series], limit)
    if ahead is None or ahead.latest > 2 * seen.step:
        return None
    state.is_told = True
    where = "" if seen.line is None else f" in line {seen.line}"
    return Sign(
        "overflow-forecast",
        "level",
        "warning",
        seen.step,
        f"at {ahead.slope_bits_per_step:.2g} bits a step the smallest argument of the logarithm"
        f"{where}, 2^-{bits:.0f}, rounds to 0 {ahead.steps_text()}",
        last_step=seen.step,
        evidence=ahead.as_evidence(),
    )
