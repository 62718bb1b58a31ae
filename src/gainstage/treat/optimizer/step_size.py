"""A smaller step, whatever the script and its scheduler set: `lower-lr`, `warm-up`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gainstage.treat.treatment import Treatment


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

    def __init__(self, factor: float = 0.1) -> None:
        super().__init__()
        self.factor = factor
        self._rates = Rates()

    def begin(self, optimizer: Any) -> None:
        """Lower the rates."""
        self._rates.multiply(optimizer, self.factor)
        self.touched += 1

    def end(self, optimizer: Any) -> None:
        """Give the rates back."""
        self._rates.give_back()


class WarmUp(Treatment):
    """Raise the learning rate from 1/steps of itself to itself, linearly over the first steps.

    Counted in the record's steps from `from` on, whichever optimizer makes them; Goyal et al.
    (2017).
    """

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

    def end(self, optimizer: Any) -> None:
        """Give the rates back."""
        self._rates.give_back()

    def state_dict(self) -> dict[str, Any]:
        """Return how far it has come."""
        return {"done": self._done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._done = int(state["done"])
