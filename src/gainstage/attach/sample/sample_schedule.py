"""When to sample: the first steps, then ever more rarely by a budget, and where there is danger.

All is decided by numbers of steps, so that the same run has the same steps sampled.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from gainstage.attach.sample.cadence import Cadence, Changed, near_power_of_two

FIRST_STEPS = 4
"""Steps that are always sampled: what is wrong from the start shows there, and a fast explosion
leaves no time for more."""
_EARLY_S = 1.0
"""What sampling may cost in all beyond its share: a short run, too, has more than four samples."""
_EARLY_GROWTH = 1.1
"""Ratio of one early sample's step to the one before."""
_LATER = 128
_LATER_GROWTH = 1.25
"""The same from that step on: of the steps of a long run far less than 1 in 100 are sampled."""
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
_DANGER_GRAIN_S = 1.0
"""Danger that another process tells of begins at a multiple of so many steps as take this long: it
arrives at a somewhat different step each time."""
_MOST_DANGER_STEPS = 256


class SampleSchedule:
    """Decides for every backward call whether its graph is sampled."""

    def __init__(
        self,
        share: float,
        *,
        on_change: Changed | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Begin.

        Args:
            share: Part of the training time that sampling may take.
            on_change: Told where samples cost so much that they had to become rarer.
            clock: In seconds.
        """
        self.cadence = Cadence(share, on_change=on_change, clock=clock)
        self.is_close = False
        """Whether something is so near to its limit that the way there is worth more samples."""
        self._danger_told: int | None = None
        self._danger_from = self._danger_until = -1
        self._danger_left = _MOST_DANGER_STEPS
        self._early_step = FIRST_STEPS
        self._early_left: int | None = None
        """Early samples that are left, None while it is not known what one costs."""
        self._is_due_by_share = False
        self._quiet_until = 0.0
        """No first backward call of a step before this one is due."""
        self._highest = math.inf
        self._loss_level = 0.0

    def is_due(self, step: int, calls: int) -> bool:
        """Tell whether to sample the backward call at hand, the last of so many of its step."""
        if step < self._quiet_until or calls > _MOST_CALLS:
            return False
        self._is_due_by_share = False
        if self.is_wanted(step):
            return True
        if calls > 1:
            return False
        if step >= self._early_step and self._may_early():
            self._expect_early(step)
            return True
        self._is_due_by_share = self.cadence.is_due(step)
        if not self._is_due_by_share and self.cadence.interval is not None:
            self._quiet_until = self._next_due(step)
        return self._is_due_by_share

    def _next_due(self, step: int) -> float:
        """Return the first step after this one that may be due, as far as is known by now."""
        due = self.cadence.next_due(step)
        if self._early_left != 0:
            due = min(due, self._early_step)
        if self._danger_until > step:
            due = min(due, max(self._danger_from, step + 1))
        return due

    def _expect_early(self, step: int) -> None:
        """Place the next early sample; none where those by the share are as near."""
        growth = _EARLY_GROWTH if step < _LATER else _LATER_GROWTH
        if self.is_close:
            growth = _CLOSE_GROWTH
        self._early_step = int(step * growth) + 1
        interval = self.cadence.interval
        if interval is not None and self._early_step - step > interval and not self.is_close:
            self._early_left = 0

    def is_expected(self, step: int) -> bool:
        """Tell whether the first backward call of a step to come will be sampled."""
        is_early = step >= self._early_step and self._early_left != 0
        return self.is_wanted(step) or is_early or self.cadence.is_due(step)

    def is_wanted(self, step: int) -> bool:
        """Tell whether a step is sampled without regard to what that costs."""
        is_danger = self._danger_from <= step <= self._danger_until and self._danger_left > 0
        return step < FIRST_STEPS or is_danger

    def _may_early(self) -> bool:
        """Tell whether the early allowance has a sample left, and take it.

        It is a number of samples, decided when the first steps have told what one costs.
        """
        if self._early_left is None:
            cost_s = self.cadence.cost_s
            affordable = _EARLY_S / cost_s if 0 < cost_s < math.inf else 1.0
            self._early_left = near_power_of_two(affordable) if affordable > FIRST_STEPS else 0
        if self._early_left <= 0:
            return False
        self._early_left -= 1
        return True

    def on_cost(self, seconds: float) -> None:
        """Take account of what a sample has just cost."""
        self.cadence.on_cost(seconds, is_due=self._is_due_by_share)

    def on_danger(self, step: int) -> None:
        """Sample every step for a while, from a round step on. Another thread may call it."""
        self._danger_told = step

    def on_loss(self, loss: float, step: int) -> None:
        """Sample a step whose loss is far above those before: its batch may be the reason."""
        level, size = self._loss_level, abs(loss)
        self._loss_level = max(size, _LEVEL_KEPT * level)
        if size > _LEAP * level and step >= _STEPS_TO_KNOW:
            self._expect(step, step + _LEAP_STEPS)

    def on_step(self, step: int, total: float | None) -> None:
        """Sample the next steps where the norm of this one is far above all before."""
        if self.cadence.wants_steps:
            self.cadence.on_step(step)
        if total is not None and total < math.inf:
            if total > self._highest:
                self._highest = _LEAP * total
                self._expect(step, step + _LEAP_STEPS)
            elif step == FIRST_STEPS:
                self._highest = _LEAP * total
        if self._danger_from <= step <= self._danger_until:
            self._danger_left -= 1
        if self._danger_told is not None and step > self._danger_until:
            self._danger_told = None
            grain = max(_DANGER_STEPS, self.cadence.steps_in(_DANGER_GRAIN_S))
            start = (step // grain + 1) * grain
            self._danger_from, self._danger_until = start, start + _DANGER_STEPS
            self._quiet_until = 0.0

    def _expect(self, step: int, until: int) -> None:
        """Have the steps from one to another sampled, besides those in danger already."""
        if step > self._danger_until:
            self._danger_from = step
        self._danger_from = min(self._danger_from, step)
        self._danger_until = max(self._danger_until, until)
        self._quiet_until = 0.0
