"""When to sample: the first steps, then ever more rarely by a budget, and where there is danger."""

from __future__ import annotations

import math
import time

FIRST_STEPS = 4
"""Steps that are always sampled: what is wrong from the start shows there, and a fast explosion
leaves no time for more."""
_EARLY_S = 1.0
"""What sampling may cost in all beyond its share: a short run, too, has more than four samples."""
_EARLY_GROWTH = 1.1
"""Ratio of one early sample's step to the one before."""
_CLOSE_GROWTH = 1.01
"""The same once something nears its limit."""
_LEAP = 8.0
"""A norm that is so many times the largest before it has the next steps sampled; a loss that is so
many times its level has the step itself sampled."""
_LEAP_STEPS = 8
_LEVEL_KEPT = 0.9
"""Of the level of the loss, from one step to the next."""
_STEPS_TO_KNOW = 8
_MOST_CALLS = 8
"""Backward calls of one step that are sampled."""
_DANGER_STEPS = 32
_MOST_DANGER_STEPS = 256


class SampleSchedule:
    """Decides for every backward call whether its graph is sampled."""

    def __init__(self, share: float) -> None:
        """Begin.

        Args:
            share: Part of the training time that sampling may take.
        """
        self.share = max(share, 1e-6)
        self.due = 0.0
        """When the budget allows the next sample, by `time.perf_counter`."""
        self.is_close = False
        """Whether something is so near to its limit that the way there is worth more samples."""
        self._danger_until = -1
        self._danger_left = _MOST_DANGER_STEPS
        self._early_step = FIRST_STEPS
        self._early_left_s = _EARLY_S
        self._highest = math.inf
        self._loss_level = 0.0

    def is_due(self, step: int, calls: int) -> bool:
        """Tell whether to sample the backward call at hand, the last of so many of its step."""
        if calls > _MOST_CALLS:
            return False
        if self.is_wanted(step):
            return True
        if calls > 1:
            return False
        if step >= self._early_step and self._early_left_s > 0:
            self._early_step = int(step * (_CLOSE_GROWTH if self.is_close else _EARLY_GROWTH)) + 1
            return True
        return time.perf_counter() >= self.due

    def is_wanted(self, step: int) -> bool:
        """Tell whether a step is sampled without regard to what that costs."""
        return step < FIRST_STEPS or (step <= self._danger_until and self._danger_left > 0)

    def on_cost(self, seconds: float) -> None:
        """Take account of what a sample has just cost."""
        self.due = time.perf_counter() + seconds / self.share
        self._early_left_s -= seconds

    def on_danger(self, step: int) -> None:
        """Sample every step for a while. Another thread may call it."""
        self._danger_until = step + _DANGER_STEPS

    def on_loss(self, loss: float, step: int) -> None:
        """Sample a step whose loss is far above those before: its batch may be the reason."""
        level, size = self._loss_level, abs(loss)
        self._loss_level = max(size, _LEVEL_KEPT * level)
        if size > _LEAP * level and step >= _STEPS_TO_KNOW:
            self._danger_until = max(self._danger_until, step + _LEAP_STEPS)

    def on_step(self, step: int, total: float | None) -> None:
        """Sample the next steps where the norm of this one is far above all before."""
        if total is not None and total < math.inf:
            if total > self._highest:
                self._highest = _LEAP * total
                self._danger_until = max(self._danger_until, step + _LEAP_STEPS)
            elif step == FIRST_STEPS:
                self._highest = _LEAP * total
        if step <= self._danger_until:
            self._danger_left -= 1
