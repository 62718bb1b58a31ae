"""`loss-divergence`: the loss stands far above all that the run has known, and rises.

Scale-free and for losses of either sign: heights are measured in units of what the loss has ranged
over so far, not in units of the loss.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from gainstage.bits import theil_sen
from gainstage.detect.history import History
from gainstage.detect.sign import Sign

_FEWEST = 4
_RANGES = 3.0
"""A catapult overshoots by about the range itself before it comes down (Lewkowycz 2020)."""
_NOISES = 20.0
_STRONG_RATIO = 100.0


@dataclass(slots=True)
class Divergence:
    """Online state: the range of the loss while it was healthy."""

    lowest: float = 0.0
    highest: float = 0.0
    size: float = 0.0
    """Largest magnitude among the first values, against which growth is measured."""


def look(state: Divergence, history: History, step: int) -> Sign | None:
    """Return a sign if the last losses stand far above the range before them, and rise."""
    value = history.recent[-1]
    if history.count <= 3:
        low, high = min(history.recent), max(history.recent)
        if history.count == 1:
            state.lowest = state.highest = value
            state.size = abs(value)
        state.lowest, state.highest = (
            min(state.lowest, low),
            max(state.highest, min(high, state.highest)),
        )
        return None
    reach = state.highest + max(
        _RANGES * (state.highest - state.lowest),
        _NOISES * history.noise,
        _RANGES * abs(state.highest),
    )
    if value <= reach:
        # Only medians widen the range: one high loss is no new ceiling, nor is a slow rise.
        if history.count % 8 == 0 and history.count <= 64:
            state.highest = max(state.highest, min(statistics.median(history.last(8)), reach))
        state.lowest = min(state.lowest, statistics.median(history.last(5)))
        return None
    last = history.last(_FEWEST)
    if statistics.median(last) <= reach or theil_sen(range(len(last)), last) <= 0:
        return None
    height = (statistics.median(last) - state.highest) / max(
        state.highest - state.lowest, abs(state.highest), 1e-30
    )
    return Sign(
        "loss-divergence",
        "loss",
        "warning",
        step,
        f"the loss is {value:.3g} at step {step} and rising; the run had known at most "
        f"{state.highest:.3g}",
        strong=height >= _STRONG_RATIO or (height >= _RANGES and history.count > 8),
        last_step=step,
        evidence={"loss": value, "highest_before": state.highest, "height_in_ranges": height},
    )
