"""A lower learning rate for a while after the gradient norm has spiked: `lower-lr:after=spike`."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from gainstage.treat.optimizer.per_optimizer import PerOptimizer
from gainstage.treat.optimizer.step_size import Rates
from gainstage.treat.treatment import Step, Treatment

_WINDOW = 100
"""Norms that make up what is usual."""
_FEWEST = 10
"""Below it nothing is known to be usual."""
_LEAST_SPREAD = 0.1
"""Bits of the norm's spread at least: a run whose norms are all alike has no spikes at 1% more."""


@dataclass(slots=True)
class Spikes:
    """Tells whether a norm is an outlier: median and MAD of the log2 of the last 100."""

    z: float
    """Robust standard deviations from which on it is."""
    cooling: int = 0
    """Steps for which the rate stays low."""
    levels: deque[float] = field(default_factory=lambda: deque[float](maxlen=_WINDOW))

    def is_spike(self, grad_norm: float) -> bool:
        """Return whether this step's norm is one, and remember it; inf and NaN always are."""
        if not math.isfinite(grad_norm):
            return True
        level = math.log2(max(grad_norm, 1e-300))
        known = list(self.levels)
        self.levels.append(level)
        if len(known) < _FEWEST:
            return False
        middle = median(known)
        spread = max(1.4826 * median(abs(each - middle) for each in known), _LEAST_SPREAD)
        return level > middle + self.z * spread

    def state_dict(self) -> dict[str, Any]:
        """Return what is remembered."""
        return {"cooling": self.cooling, "levels": list(self.levels)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what was."""
        self.cooling = int(state["cooling"])
        self.levels = deque(state["levels"], maxlen=_WINDOW)


class CoolDown(Treatment):
    """Multiply the learning rate of a step whose gradient norm spikes, and of those that follow."""

    def __init__(self, factor: float = 0.1, steps: float = 50.0, z: float = 6.0) -> None:
        super().__init__()
        self.factor = factor
        self.steps = int(steps)
        self._rates = Rates()
        self._spikes = PerOptimizer(_SpikesAbove(z))

    def treat(self, step: Step) -> None:
        """Look at the norm, and lower the rates of this very step while cooling lasts."""
        if step.grad_norm is None:
            return
        spikes = self._spikes.of(step.optimizer)
        if spikes.is_spike(step.grad_norm):
            spikes.cooling = self.steps
        if spikes.cooling > 0:
            self._rates.multiply(step.optimizer, self.factor)

    def end(self, optimizer: Any) -> None:
        """Give the rates back, and count the step that was cooled."""
        spikes = self._spikes.of(optimizer)
        if spikes.cooling > 0:
            spikes.cooling -= 1
            self.touched += 1
        self._rates.give_back()

    def state_dict(self) -> dict[str, Any]:
        """Return the norms that are usual and how long cooling lasts."""
        return self._spikes.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._spikes.load_state_dict(state)


@dataclass(frozen=True, slots=True)
class _SpikesAbove:
    z: float

    def __call__(self) -> Spikes:
        return Spikes(self.z)
