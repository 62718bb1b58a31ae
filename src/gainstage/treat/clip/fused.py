"""What clipping shares with a fused optimizer, whose kernel scales gradients as it reads them."""

from __future__ import annotations

from typing import Any

import torch

from gainstage.treat.treatment import Step


class FusedClip:
    """A factor that a fused optimizer applies as it reads the gradients, so that nobody else does.

    Its kernel divides by `grad_scale`, which is there for a `GradScaler`, and writes the quotient
    back, as clipping would have.
    """

    def __init__(self) -> None:
        self._told: Any = None

    def take(self, step: Step, coefficient: float) -> bool:
        """Have the optimizer scale its gradients in the step it is about to make, if it can."""
        optimizer = step.optimizer
        if optimizer is None or not all(group.get("fused") for group in optimizer.param_groups):
            return False
        step.scale /= coefficient
        device = step.parameters[0].device
        if getattr(optimizer, "found_inf", None) is None:
            optimizer.found_inf = torch.zeros((), device=device)
            self._told = optimizer
        optimizer.grad_scale = torch.tensor(step.scale, dtype=torch.float32, device=device)
        return True

    def give_back(self) -> None:
        """Undo what `take` told the optimizer; what a `GradScaler` has set is its own to undo."""
        if self._told is not None:
            for flag in ("found_inf", "grad_scale"):
                delattr(self._told, flag)
            self._told = None


def unscale(step: Step) -> None:
    """Take the loss scale out of the gradients that a fused optimizer would divide by itself."""
    if step.scale == 1.0:
        return
    with torch.no_grad():
        for grad in step.present():
            grad.div_(step.scale)
    step.optimizer.grad_scale = None
    step.scale = 1.0
