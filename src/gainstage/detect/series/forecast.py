"""When a series that grows meets its limit, with an interval, if it goes on as it does.

The time is headroom over slope, a robust line's through the last steps. Its logarithm is taken as
normal, with a variance of three parts: the slope's error over the window, the wandering on the way
(both by the long-run variance of a step's rise, as of a random walk with a drift), and the drift's
own change, which grows with how far is looked ahead. `benchmarks/forecast.py` prints how often the
interval holds.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gainstage.bits import theil_sen
from gainstage.detect.series.trend import mann_kendall

_RISES = 2.3
_WINDOWS = (64, 32, 16, 8)
_Z80 = 1.2816
_CHANGE = 0.02
"""Standard deviation of log slope for each e-fold looked ahead: tuned on seeds 0 to 149."""
_STEADY = 0.4
_WIDEST = 3.0

Series = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Forecast:
    """The step at which the limit is met, with the interval that holds it with 80% probability."""

    step: float
    earliest: float
    latest: float
    slope_bits_per_step: float
    headroom_bits: float


def forecast(steps: list[int], bits: list[float], limit_bits: float) -> Forecast | None:
    """Return when a series meets its limit, None where its last values do not rise beyond doubt.

    Args:
        steps: Step numbers, rising; the last 64 are looked at.
        bits: The series on a log2 scale, finite.
        limit_bits: log2 of the largest finite value.
    """
    best: tuple[Series, Series, float] | None = None
    for length in [*(n for n in _WINDOWS if n <= len(bits)), min(len(bits), 7)]:
        x, y = np.array(steps[-length:], dtype=np.float64), np.array(bits[-length:])
        rises = mann_kendall(y) > _RISES if length >= 6 else bool((np.diff(y) > 0).all())
        if length < 4 or not rises or (slope := theil_sen(x, y)) <= 0:
            continue
        best = (x, y, slope)
        # The longest window over which the growth is one growth; else the shortest that rises.
        if abs(_log_change(x, y, slope)) <= _STEADY:
            break
    return None if best is None else _met(*best, limit_bits)


def _log_change(x: Series, y: Series, slope: float) -> float:
    """Return the natural logarithm of the later half's slope over the earlier half's, bounded."""
    half = len(x) // 2
    early, late = (theil_sen(x[part], y[part]) for part in (slice(half + 1), slice(half, None)))
    least = 0.1 * slope
    return math.log(max(late, least) / max(early, least))


def _met(x: Series, y: Series, slope: float, limit_bits: float) -> Forecast | None:
    level = statistics.median((y + slope * (x[-1] - x))[-8:].tolist())
    if level >= limit_bits:
        return None
    ahead = (limit_bits - level) / slope
    behind = float(x[-1] - x[0])
    wander = _long_run_variance(x, y) / slope**2
    spread = math.sqrt(
        wander / behind + wander / ahead + (_CHANGE * math.log1p(ahead / behind)) ** 2
    )
    factor = math.exp(_Z80 * min(spread, _WIDEST))
    last = float(x[-1])
    return Forecast(
        last + ahead, last + ahead / factor, last + ahead * factor, slope, limit_bits - level
    )


def _long_run_variance(x: Series, y: Series) -> float:
    """Return the variance of a step's rise that does not average out over many steps.

    Noise about a line averages out, a random walk and growth in stairs do not: rises over an eighth
    of the window tell one from the other.
    """
    length = max(1, len(x) // 8)
    runs, rises = x[length:] - x[:-length], y[length:] - y[:-length]
    mean = float(rises.sum() / runs.sum())
    return float(np.mean((rises - mean * runs) ** 2 / runs))
