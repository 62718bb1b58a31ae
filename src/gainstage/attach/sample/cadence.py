"""How many steps lie between two samples: decided once, by what a sample costs in this run.

The same run is sampled at the same steps each time: an interval is one of few that are far apart,
made of the smallest cost and the shortest steps seen until a fixed step, which a busy machine moves
least. It changes later only where a sample really costs several times what was decided upon.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

DECIDED_AT = 32
"""Step at which the interval is decided."""
_BASE = 4
"""An interval is a power of it: where noise decides between two, both fit a share four times as
wide."""
_LONGEST = _BASE**10
_WINDOW = 4
"""Steps that are timed together: of two networks in turn, and of numbers that arrive by several."""
_FAR_ABOVE = 4.0
"""Times the share that samples must really have cost before the interval is made longer."""
_SAMPLES_JUDGED = 32
"""After so many samples the real cost is looked at."""

Changed = Callable[[int, int, int], None]
"""Takes the step, the interval until then, and the one from then on."""


class Cadence:
    """Tells which steps are due. One for each thing that is sampled."""

    def __init__(
        self,
        share: float,
        *,
        shortest: int = 1,
        on_change: Changed | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Begin to measure.

        Args:
            share: Part of the training time that samples may take.
            shortest: The interval is at least so long, however little a sample costs.
            on_change: Told of an interval that had to be made longer.
            clock: In seconds.
        """
        self.share = max(share, 1e-6)
        self.interval: int | None = None
        """In steps, None until it is decided."""
        self.cost_s = math.inf
        """The least that a sample has cost so far."""
        self.step_s = math.inf
        """What a step has taken in the shortest few so far, without what was sampled in them."""
        self.wants_steps = True
        """Whether `on_step` has anything to do: until the interval is decided, and where enough
        samples were taken since to see whether it holds."""
        self._shortest = shortest
        self._on_change = on_change
        self._clock = clock
        self._last: float | None = None
        self._spent_s = 0.0
        self._judged_from = 0.0
        self._judged_costs_s: list[float] = []

    def is_due(self, step: int) -> bool:
        """Tell whether a step is one of those that the share allows.

        The gap is one step longer than the interval, an odd number: a script that steps two or
        four optimizers in turn has all of them sampled.
        """
        interval = self.interval
        if interval is None:
            return False
        return interval == 1 or step % (interval + 1) == 0

    def next_due(self, step: int) -> float:
        """Return the first step after this one that is due; infinite while none is known."""
        interval = self.interval
        if interval is None:
            return math.inf
        gap = 1 if interval == 1 else interval + 1
        return (step // gap + 1) * gap

    def on_cost(self, seconds: float, *, is_due: bool = True) -> None:
        """Take account of a sample.

        Args:
            seconds: What it has cost.
            is_due: Whether it was taken as `is_due` said, so that its cost is the share's.
        """
        self.cost_s = min(self.cost_s, seconds)
        self._spent_s += seconds
        if is_due and self.interval is not None:
            self._judged_costs_s.append(seconds)
            self.wants_steps = len(self._judged_costs_s) >= _SAMPLES_JUDGED

    def on_step(self, step: int) -> None:
        """Measure a step that has ended; decide, or see whether the decision holds."""
        if self.interval is not None:
            if self.wants_steps:
                self._judge(step)
            return
        if step % _WINDOW and self._last is not None:
            return
        now = self._clock()
        if self._last is not None:
            taken = (now - self._last - self._spent_s) / _WINDOW
            self.step_s = min(self.step_s, max(taken, 1e-7))
        self._last, self._spent_s = now, 0.0
        if step >= DECIDED_AT and self.cost_s < math.inf:
            paid_for = power_above(self.cost_s / (self.share * self.step_s))
            self.interval = max(paid_for, self._shortest)
            self._judged_from = now
            self.wants_steps = False

    def _judge(self, step: int) -> None:
        """Make the interval longer where samples have cost far more than their share.

        The median counts: what the system takes away in the middle of a sample is not its cost.
        """
        now = self._clock()
        allowed_s = self.share * (now - self._judged_from)
        costs_s = sorted(self._judged_costs_s)
        cost_s = costs_s[len(costs_s) // 2] * len(costs_s)
        excess = cost_s / max(allowed_s, 1e-9)
        self._judged_from, self._judged_costs_s, self.wants_steps = now, [], False
        before = self.interval or 1
        if excess > _FAR_ABOVE and before < _LONGEST:
            self.interval = min(before * power_above(excess), _LONGEST)
            if self._on_change is not None:
                self._on_change(step, before, self.interval)

    def steps_in(self, seconds: float) -> int:
        """Return about how many steps take so long, as one of few numbers that are far apart."""
        return power_above(seconds / self.step_s) if self.step_s < math.inf else 1


def near_power_of_two(number: float) -> int:
    """Return the power of two that is nearest to a number of 1 or more."""
    return 2 ** round(math.log2(number))


def power_above(ratio: float) -> int:
    """Return the least interval of `ratio` steps or more."""
    interval = 1
    while interval < ratio and interval < _LONGEST:
        interval *= _BASE
    return interval
