"""Leaving a step out: parameters and optimizer state keep their bits, whatever the optimizer is."""

from __future__ import annotations

from typing import Any

import torch

from gainstage.treat.treatment import Step

_FLAGS = ("found_inf", "grad_scale")


class SkippedStep:
    """One step at a time: `take` before the optimizer acts, `give_back` after it.

    For the time of the step the parameters have no gradient, which every torch optimizer takes as
    nothing to do; afterwards the script finds its gradients again. A fused optimizer that has its
    state is told by `found_inf`, as a `GradScaler` tells it: its own kernel then writes nothing.
    """

    def __init__(self) -> None:
        self._taken: list[tuple[Any, Any]] = []
        self._flagged: Any = None

    def take(self, step: Step) -> None:
        """Have the optimizer leave out the step that it is about to make."""
        step.skipped = True
        if step.optimizer is None:
            for grad in step.present():
                zero(grad)
            return
        if _heeds_found_inf(step):
            step.optimizer.grad_scale = None
            step.optimizer.found_inf = torch.ones((), device=step.parameters[0].device)
            self._flagged = step.optimizer
            return
        for parameter, grad in zip(step.parameters, step.grads, strict=True):
            if grad is not None:
                self._taken.append((parameter, grad))
                parameter.grad = None

    def give_back(self) -> None:
        """Undo what `take` did, if it did anything."""
        for parameter, grad in self._taken:
            parameter.grad = grad
        self._taken.clear()
        if self._flagged is not None:
            for flag in _FLAGS:
                delattr(self._flagged, flag)
            self._flagged = None


def zero(grad: Any) -> None:
    """Set a gradient to 0 in place; NaN and inf go as well."""
    with torch.no_grad():
        grad.zero_()


def _heeds_found_inf(step: Step) -> bool:
    """Tell whether the optimizer's kernels leave a step out by `found_inf`, touching nothing.

    Not in its first step: fused SGD would then keep momentum that nobody has written. Not where a
    `GradScaler` has set the flag itself.
    """
    optimizer = step.optimizer
    return (
        all(group.get("fused") for group in optimizer.param_groups)
        and not any(flag in vars(optimizer) for flag in _FLAGS)
        and all(
            optimizer.state.get(parameter)
            for parameter, grad in zip(step.parameters, step.grads, strict=True)
            if grad is not None
        )
    )
