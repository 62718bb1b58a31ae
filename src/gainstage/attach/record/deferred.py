"""Reads a step on an accelerator: launched now, known some steps later. Nothing waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from torch import Tensor
from torch.optim import Optimizer

from gainstage.attach.names.columns import Plan
from gainstage.attach.names.loss_scale import LossScale
from gainstage.attach.record.clips import Clips, divided
from gainstage.attach.record.metrics import Norms, StepMetrics
from gainstage.attach.record.pending_rows import PendingRows
from gainstage.norms.deferred import Number, deferred_norms, total_of

Done = Callable[[StepMetrics | None, float | None, float | None], None]
"""Takes a step's metrics, its loss and its learning rate; metrics of None say that a fused
optimizer has left the step out."""


class DeferredReader:
    """Launches the reads of steps, and hands on what has arrived, in the order of the steps."""

    def __init__(self, clips: Clips, loss_scale: LossScale) -> None:
        """Prepare.

        Args:
            clips: What clipping calls saw since the last backward call.
            loss_scale: Knows scaled gradients, and steps that a fused optimizer leaves out.
        """
        self._clips = clips
        self._loss_scale = loss_scale
        self.pending = PendingRows()

    def begin(
        self,
        plan: Plan,
        grads: list[Tensor | None],
        optimizer: Optimizer | None,
        loss: Number,
        lr: Number,
        done: Done,
    ) -> None:
        """Begin to read a step.

        Args:
            plan: What is stepped.
            grads: Its gradients.
            optimizer: That steps, None where the script does it by hand.
            loss: Fetched together with the norms, like the next.
            lr: The learning rate.
            done: Called with the numbers, in a later call of `deliver`.
        """
        scale = 1.0 if optimizer is None else self._loss_scale.of_fused(optimizer)
        found_inf = 0.0 if optimizer is None else self._loss_scale.found_inf(optimizer)
        if self._clips.calls:
            numbers = self._clips.before(plan, grads, scale, deferred_norms)
            scale = 1.0
        else:
            numbers = [None, None, *deferred_norms(grads)]

        def finish(numbers: list[float | None]) -> None:
            found_inf, scale, loss, lr, max_norm, coefficient, *norms = numbers
            if found_inf:
                done(None, loss, lr)
                return
            if scale != 1.0:
                norms = cast("Norms", divided(norms, scale or 1.0))
            done(StepMetrics(norms, total_of(norms), max_norm, coefficient), loss, lr)

        self.pending.add([found_inf, scale, loss, lr, *numbers], finish)

    def begin_weights(self, weights: Sequence[Tensor], done: Callable[[Norms], None]) -> None:
        """Begin to read the norms of weights."""
        self.pending.add(deferred_norms(weights), done)

    def deliver(self, *, wait: bool = False) -> None:
        """Hand on what has arrived; all there is where told to wait."""
        if self.pending.waiting:
            self.pending.deliver(wait=wait)
