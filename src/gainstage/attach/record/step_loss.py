"""The loss of the step to come, summed over the backward calls that are made for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from gainstage.attach.names.loss_scale import LossScale
from gainstage.norms.deferred import Number
from gainstage.norms.native import plain_value


class StepLoss:
    """Adds up losses as backward calls add up gradients, until a step has used the sum."""

    def __init__(self, loss_scale: LossScale) -> None:
        """Begin with none.

        Args:
            loss_scale: Knows which losses were scaled.
        """
        self.value: Number = None
        """The sum so far; where a loss is on an accelerator, a tensor there."""
        self._loss_scale = loss_scale
        self.is_used = True
        """Whether a step has used the sum, or has been left out: the next call begins anew."""

    def add(self, roots: Sequence[Any], *, replace: bool = False) -> bool:
        """Add the losses that a backward call begins at.

        Args:
            roots: What backward is called on; only tensors of one element are losses.
            replace: Drop the sum first, as within a closure: only its last gradient is used.

        Returns:
            Whether they are finite, as far as that is known without waiting for a device.
        """
        if len(roots) == 1 and (self.is_used or replace) and self._loss_scale.is_unused:
            (root,) = roots
            value = None if plain_value is None else plain_value(root)
            if value is not None:  # as on most steps
                self.is_used, self.value = False, value
                return math.isfinite(value)
        is_finite = True
        if self.is_used or replace:
            self.value, self.is_used = None, False
        for root in roots:
            if isinstance(root, Tensor) and root.numel() == 1:
                value = self._loss_scale.unscaled_loss(root)
                if value is None:
                    continue
                known = self.value
                if isinstance(known, Tensor) and isinstance(value, Tensor):
                    known = known.to(value.device, non_blocking=True)
                self.value = value if known is None else known + value
                is_finite = is_finite and (isinstance(value, Tensor) or math.isfinite(value))
        return is_finite

    def release(self) -> None:
        """Let go of a loss that is a tensor."""
        self.value, self.is_used = None, True
