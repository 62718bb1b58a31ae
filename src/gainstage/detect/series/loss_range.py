"""What the loss of a run has ranged over so far: the unit in which its heights are measured."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from gainstage.detect.series.history import History

RANGES = 3.0
"""A catapult overshoots by about the range itself before it comes down (Lewkowycz 2020)."""
NOISES = 20.0
_FEW = 24
_START = 3


@dataclass(slots=True)
class LossRange:
    """The range of the loss while it was healthy."""

    lowest: float = 0.0
    highest: float = 0.0
    start: float = 0.0
    """Median of the first three losses."""
    reach: float = math.inf
    """Height above which the latest loss is out of all bounds."""
    is_out: bool = False
    """Whether it is."""

    def judge(self, history: History) -> None:
        """Hold the latest loss against the range before it."""
        if history.count <= _START:
            self._learn_start(history)
            return
        # Few losses are a poor guide to what the next may be.
        ranges = RANGES * max(1.0, _FEW / history.count)
        self.reach = self.highest + max(
            ranges * (self.highest - self.lowest),
            NOISES * history.noise,
            ranges * abs(self.highest),
        )
        self.is_out = history.recent[-1] > self.reach

    def learn(self, history: History) -> None:
        """Widen the range by a loss that is within its reach.

        Only medians widen it: one high loss is no new ceiling, nor is a slow rise.
        """
        if history.count <= _START or self.is_out:
            return
        if history.count % 8 == 0 and history.count <= 64:
            self.highest = max(self.highest, min(statistics.median(history.last(8)), self.reach))
        self.lowest = min(self.lowest, statistics.median(history.last(5)))

    def _learn_start(self, history: History) -> None:
        value = history.recent[-1]
        if history.count == 1:
            self.lowest = self.highest = value
        self.lowest = min(self.lowest, value)
        self.highest = max(self.highest, min(max(history.recent), self.highest))
        self.start = history.origin
