"""S3 `gradient-growth`: the global gradient norm grows, steadily and by many bits."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from gainstage.bits import theil_sen
from gainstage.detect.series.history import History
from gainstage.detect.series.sign import Sign
from gainstage.detect.series.trend import mann_kendall

NOTABLE_BITS = 5.0
"""32 times the run's own level: a healthy late rise is about 1.6 bits (DESIGN 5)."""
STRONG_BITS = 10.0
"""From about 1 to about 1000, the textbook's alarm."""
_RISES = 2.3
"""Mann-Kendall z of a rise with 99% confidence."""
_WINDOWS = (8, 16, 32, 64)
_FEWEST = 4


@dataclass(slots=True)
class Growth:
    """Online state: how much growth was already looked at and told."""

    looked_at: float = 0.0


def look(state: Growth, history: History, step: int) -> Sign | None:
    """Return a sign if the norm, in bits, has grown over the run's level and still rises.

    The fit runs only where the last values are far above the level, so a quiet step costs nothing.
    """
    value = history.recent[-1]
    if value - history.reference < NOTABLE_BITS or history.count < _FEWEST:
        state.looked_at = 0.0
        return None
    gained = statistics.median(history.last(3)) - history.reference
    if gained < NOTABLE_BITS or (gained < state.looked_at + 1.0 and history.count % 8):
        return None
    state.looked_at = max(gained, state.looked_at)
    slope = _steady_slope(history)
    if slope is None:
        return None
    steps = history.steps[-1] - history.steps[0]
    return Sign(
        "gradient-growth",
        "gradient",
        "warning",
        step,
        f"the gradient norm grew {gained:.1f} bits over its level, {slope:+.2g} bits a step "
        f"at step {step}",
        strong=gained >= STRONG_BITS,
        last_step=step,
        evidence={"bits_gained": gained, "slope_bits_per_step": slope, "window_steps": steps},
    )


def _steady_slope(history: History) -> float | None:
    """Return the slope of the shortest dyadic window that rises beyond doubt, or of the chunks."""
    lengths = [n for n in _WINDOWS if n < len(history.recent)] + [len(history.recent)]
    for length in lengths:
        values, steps = history.last(length), list(history.steps)[-length:]
        # Four values in order are all that a fast explosion gives; a trend test needs more.
        rises = mann_kendall(values) > _RISES if length >= 6 else values == sorted(values)
        slope = theil_sen(steps, values)
        if rises and slope * (steps[-1] - steps[0]) >= NOTABLE_BITS / 2:
            return slope
    chunks = history.chunks[-_WINDOWS[-1] :]
    if mann_kendall(chunks) > _RISES:
        slope = theil_sen(range(len(chunks)), chunks)
        if slope * len(chunks) >= NOTABLE_BITS / 2:
            return slope / history.chunk_length
    return None
