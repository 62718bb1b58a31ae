"""Leaving out a step whose gradients are not finite."""

from __future__ import annotations

import math
from typing import Any

from gainstage.treat.optimizer.skipped_step import SkippedStep
from gainstage.treat.treatment import Step, Treatment


class SkipNonfinite(Treatment):
    """Leave parameters and optimizer state untouched by a step with a NaN or inf gradient.

    Afterwards the script finds its gradients again. Statistics of batch norm were updated in the
    forward pass and are not undone: that is what `--guard skip` does besides.
    """

    def __init__(self) -> None:
        super().__init__()
        self._skipped = SkippedStep()

    def treat(self, step: Step) -> None:
        """Leave the step out if any gradient is not finite."""
        if step.grad_norm is None or math.isfinite(step.grad_norm):
            return
        self._skipped.take(step)
        self.touched += 1

    def end(self, optimizer: Any) -> None:
        """Give the gradients back."""
        self._skipped.give_back()
