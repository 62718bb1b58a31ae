"""Leaving out a step whose gradients are not finite."""

from __future__ import annotations

import math
from typing import Any

from gainstage.treat.treatment import Step


class SkipNonfinite:
    """Leave parameters and optimizer state untouched by a step with a NaN or inf gradient.

    For the time of the step the parameters have no gradient, which every torch optimizer takes as
    nothing to do; afterwards the script finds its gradients again. Statistics of batch norm were
    updated in the forward pass and are not undone.
    """

    remedy = "skip-nonfinite"

    def __init__(self) -> None:
        self.touched = 0
        self._taken: list[tuple[Any, Any]] = []

    def settings(self) -> dict[str, float]:
        """Return the settings by name: there are none."""
        return {}

    def begin(self, optimizer: Any) -> None:
        """Change nothing before the gradients are there."""

    def treat(self, step: Step) -> None:
        """Take the gradients away if any is not finite."""
        if step.grad_norm is None or math.isfinite(step.grad_norm):
            return
        for parameter, grad in zip(step.parameters, step.grads, strict=True):
            if grad is not None:
                self._taken.append((parameter, grad))
                parameter.grad = None
        step.skipped = True
        self.touched += 1

    def end(self, optimizer: Any) -> None:
        """Give the gradients back."""
        for parameter, grad in self._taken:
            parameter.grad = grad
        self._taken.clear()
