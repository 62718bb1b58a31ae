"""A smaller step, whatever the script and its scheduler set: `lower-lr`, `warm-up`, `raise-eps`."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from gainstage.treat.optimizer.per_optimizer import PerOptimizer
from gainstage.treat.treatment import Step, Treatment

_NO_RATE = "changes nothing: the script has no optimizer, so no learning rate is known"


class Rates:
    """Learning rates multiplied for the time of a step.

    The script and its scheduler go on seeing their own, so that a schedule keeps its shape.
    """

    def __init__(self) -> None:
        self._own: list[tuple[dict[str, Any], Any, float]] = []

    def multiply(self, optimizer: Any, factor: float) -> None:
        """Multiply the rate of every group, once a step."""
        if self._own:
            return
        for group in optimizer.param_groups:
            if "lr" in group:
                self._own.append((group, group["lr"], factor))
                group["lr"] = group["lr"] * factor

    def give_back(self) -> None:
        """Give the rates back, unless the step itself has set another."""
        for group, own, factor in self._own:
            lowered = group["lr"]
            if lowered is not own and bool(lowered == own * factor):
                group["lr"] = own
        self._own.clear()


class LowerLr(Treatment):
    """Multiply the learning rate of every step."""

    remedy = "lower-lr"

    def __init__(self, factor: float = 0.1) -> None:
        super().__init__()
        self.factor = factor
        self._rates = Rates()

    def begin(self, optimizer: Any) -> None:
        """Lower the rates."""
        self._rates.multiply(optimizer, self.factor)
        self.touched += 1

    def treat(self, step: Step) -> None:
        """Change no gradient; say so where that means to do nothing at all."""
        _say_without_optimizer(self, step)

    def end(self, optimizer: Any) -> None:
        """Give the rates back."""
        self._rates.give_back()


class WarmUp(Treatment):
    """Raise the learning rate from 1/steps of itself to itself, linearly over the first steps.

    Counted in the record's steps from `from` on, whichever optimizer makes them; Goyal et al.
    (2017).
    """

    remedy = "warm-up"

    def __init__(self, steps: float = 100.0) -> None:
        super().__init__()
        self.steps = steps
        self._done = 0
        self._rates = Rates()

    def begin(self, optimizer: Any) -> None:
        """Lower the rates while it lasts."""
        self._done += 1
        if self._done < self.steps:
            self._rates.multiply(optimizer, self._done / self.steps)
            self.touched += 1

    def treat(self, step: Step) -> None:
        """Change no gradient; say so where that means to do nothing at all."""
        _say_without_optimizer(self, step)

    def end(self, optimizer: Any) -> None:
        """Give the rates back."""
        self._rates.give_back()

    def state_dict(self) -> dict[str, Any]:
        """Return how far it has come."""
        return {"done": self._done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._done = int(state["done"])


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

    remedy = "lower-lr"

    def __init__(self, factor: float = 0.1, steps: float = 50.0, z: float = 6.0) -> None:
        super().__init__()
        self.factor = factor
        self.steps = int(steps)
        self._rates = Rates()
        self._spikes = PerOptimizer(_SpikesAbove(z))

    def treat(self, step: Step) -> None:
        """Look at the norm, and lower the rates of this very step while cooling lasts."""
        if _say_without_optimizer(self, step) or step.grad_norm is None:
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


class RaiseEps(Treatment):
    """Let no group's `eps` be below a least one for the time of the step.

    An `eps` of 0 makes Adam divide 0 by 0 where a gradient has always been 0; one far below the
    gradients' own noise turns noise into full steps.
    """

    remedy = "raise-eps"

    def __init__(self, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = eps
        self._own: list[tuple[dict[str, Any], Any]] = []

    def begin(self, optimizer: Any) -> None:
        """Raise those below."""
        groups = [group for group in optimizer.param_groups if "eps" in group]
        for group in groups:
            if isinstance(group["eps"], (int, float)) and group["eps"] < self.eps:
                self._own.append((group, group["eps"]))
                group["eps"] = self.eps
        if not groups and not self.notes:
            self.notes.append(f"raise-eps changes nothing: {type(optimizer).__name__} has no eps")
        self.touched += bool(self._own)

    def end(self, optimizer: Any) -> None:
        """Give the script its own back."""
        for group, own in self._own:
            if group["eps"] == self.eps:
                group["eps"] = own
        self._own.clear()


def _say_without_optimizer(treatment: Treatment, step: Step) -> bool:
    if step.optimizer is not None:
        return False
    if not treatment.notes:
        treatment.notes.append(f"{treatment.remedy} {_NO_RATE}")
    return True
