"""Reads a step whose gradients are in the host's memory, or that something waits for anyway."""

from __future__ import annotations

import operator
from typing import cast

from torch import Tensor
from torch.optim import Optimizer

from gainstage.attach.names.columns import Plan
from gainstage.attach.names.loss_scale import LossScale
from gainstage.attach.record.clips import Clips
from gainstage.attach.record.metrics import Norms, StepMetrics
from gainstage.norms.deferred import Fetch, Number, fetched_norms, total_of
from gainstage.norms.native import plain_norms
from gainstage.norms.total import gradient_norms, small_norms

_GRAD = operator.attrgetter("grad")


def read_plain(plan: Plan) -> StepMetrics:
    """Read a step on the CPU that nothing has clipped, scaled or treats. The shortest way."""
    if not plan.is_small:
        return StepMetrics(*gradient_norms(list(map(_GRAD, plan.parameters))))
    if plain_norms is not None:
        known = plain_norms(plan.parameters)
        if known is not None:
            return StepMetrics(*known)
    return StepMetrics(*small_norms(list(map(_GRAD, plan.parameters))))


def gradients_of(plan: Plan) -> list[Tensor | None]:
    """Return the gradients of a plan's parameters, None where a parameter has none."""
    return [parameter.grad for parameter in plan.parameters]


def lr_of(optimizer: Optimizer | None) -> Number:
    """Return the learning rate of an optimizer's first group."""
    groups = [] if optimizer is None else optimizer.param_groups
    lr = groups[0].get("lr") if groups else None
    return lr if lr is None or type(lr) is float or isinstance(lr, Tensor) else float(lr)


class ImmediateReader:
    """Reads gradients at once; waits for an accelerator where they are on one."""

    def __init__(self, clips: Clips, loss_scale: LossScale) -> None:
        """Prepare.

        Args:
            clips: What clipping calls saw since the last backward call.
            loss_scale: Knows the factor that a fused optimizer will divide by.
        """
        self._clips = clips
        self._loss_scale = loss_scale

    def read(
        self, plan: Plan, grads: list[Tensor | None], optimizer: Optimizer | None
    ) -> StepMetrics:
        """Return a step's metrics.

        Args:
            plan: What is stepped.
            grads: Its gradients, by now clipped where the script clips.
            optimizer: That divides them by a loss scale within its step, if one does.
        """
        known = self.read_clipped(plan)
        if known is not None:
            return known
        scale = 1.0 if optimizer is None else self._loss_scale.of_fused(optimizer)
        read = gradient_norms if plan.on_cpu else fetched_norms
        if not self._clips.calls:
            norms, total = read(grads)
            scale = float(scale)
            if scale != 1.0 and total is not None:
                norms, total = [n if n is None else n / scale for n in norms], total / scale
            return StepMetrics(norms, total)
        numbers = self._clips.before(plan, grads, scale, lambda rest: read(rest)[0])
        if any(isinstance(number, Tensor) for number in numbers):
            numbers = Fetch(numbers).numbers()
        max_norm, coefficient, *norms = cast("Norms", numbers)
        return StepMetrics(norms, total_of(norms), max_norm, coefficient)

    def read_clipped(self, plan: Plan) -> StepMetrics | None:
        """Return the metrics that the step's only clipping call has read already, if it has."""
        if not self._clips.calls:
            return None
        known = self._clips.of_whole(plan)
        return None if known is None else StepMetrics(*known)

    def norm_now(
        self, plan: Plan, grads: list[Tensor | None], metrics: StepMetrics, scale: float
    ) -> float | None:
        """Return the norm of all gradients as the script has left them, unscaled.

        Args:
            plan: What is stepped.
            grads: Its gradients.
            metrics: Of the same step; their norm is this one where nothing has clipped.
            scale: The factor that is in the gradients.
        """
        if not self._clips.calls:
            return metrics.grad_norm
        norm = (gradient_norms if plan.on_cpu else fetched_norms)(grads)[1]
        return None if norm is None else norm / scale
