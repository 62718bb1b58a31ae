"""Clipping by global norm, from outside."""

from __future__ import annotations

from typing import Any

from gainstage.norms.clip import clip_coefficient, scale_gradients_
from gainstage.treat.treatment import Step


class ClipGlobalNorm:
    """Scale all gradients of a step by min(1, max_norm / norm), as Pascanu et al. (2013) propose.

    Its direction is kept. A gradient whose norm is not finite is left as it is: scaling cannot
    mend it, and would turn one inf into zeros everywhere else.
    """

    remedy = "clip-global-norm"

    def __init__(self, max_norm: float = 1.0) -> None:
        self.max_norm = max_norm
        self.touched = 0

    def settings(self) -> dict[str, float]:
        """Return the settings by name."""
        return {"max_norm": self.max_norm}

    def begin(self, optimizer: Any) -> None:
        """Change nothing before the gradients are there."""

    def treat(self, step: Step) -> None:
        """Clip, and tell the step by how much."""
        if step.grad_norm is None or not step.grad_norm < float("inf"):
            return
        coefficient = clip_coefficient(self.max_norm, step.grad_norm)
        grads = [grad for grad in step.grads if grad is not None]
        scale_gradients_(grads, coefficient, foreach=None)
        step.max_norm = self.max_norm
        step.coefficient = coefficient
        step.grad_norm *= coefficient
        self.touched += coefficient < 1.0

    def end(self, optimizer: Any) -> None:
        """Leave the gradients clipped, as `clip_grad_norm_` would."""
