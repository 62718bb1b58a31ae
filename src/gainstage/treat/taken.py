"""Gradients taken away for the time of a step: every torch optimizer then finds nothing to do."""

from __future__ import annotations

from typing import Any

import torch

from gainstage.treat.treatment import Step


class TakenGradients:
    """Gradients that their parameters do without while the optimizer steps."""

    def __init__(self) -> None:
        self._taken: list[tuple[Any, Any]] = []

    def take(self, step: Step) -> None:
        """Leave the step out: parameters and optimizer state stay as they are.

        A script that steps by hand reads `.grad` itself: it finds zeros.
        """
        for parameter, grad in zip(step.parameters, step.grads, strict=True):
            if grad is None:
                continue
            if step.optimizer is None:
                zero(grad)
            else:
                self._taken.append((parameter, grad))
                parameter.grad = None
        step.skipped = True

    def give_back(self) -> None:
        """Let the script find its gradients again."""
        for parameter, grad in self._taken:
            parameter.grad = grad
        self._taken.clear()


def zero(grad: Any) -> None:
    """Set a gradient to 0 in place; NaN and inf go as well."""
    with torch.no_grad():
        grad.zero_()
