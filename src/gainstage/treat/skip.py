"""Leaving out a step whose gradients are not finite."""

from __future__ import annotations

import math
from typing import Any

from gainstage.treat.taken import TakenGradients
from gainstage.treat.treatment import Step, Treatment


class SkipNonfinite(Treatment):
    """Leave parameters and optimizer state untouched by a step with a NaN or inf gradient.

    Afterwards the script finds its gradients again. Statistics of batch norm were updated in the
    forward pass and are not undone.
    """

    remedy = "skip-nonfinite"

    def __init__(self) -> None:
        super().__init__()
        self._taken = TakenGradients()

    def treat(self, step: Step) -> None:
        """Take the gradients away if any is not finite."""
        if step.grad_norm is None or math.isfinite(step.grad_norm):
            return
        self._taken.take(step)
        self.touched += 1

    def end(self, optimizer: Any) -> None:
        """Give the gradients back."""
        self._taken.give_back()
