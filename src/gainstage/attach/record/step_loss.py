"""The loss of the step to come, summed over the backward calls that are made for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from gainstage.attach.names.loss_scale import LossScale
from gainstage.norms.deferred import Number


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
        self._is_used = True

    def add(self, roots: Sequence[Any], *, replace: bool = False) -> bool:
        """Add the losses that a backward call begins at.

        Args:
            roots: What backward is called on; only tensors of one element are losses.
            replace: Drop the sum first, as within a closure: only its last gradient is used.

        Returns:
            Whether they are finite, as far as that is known without waiting for a device.
        """
        is_finite = True
        if self._is_used or replace:
            self.value, self._is_used = None, False
        for root in roots:
            if isinstance(root, Tensor) and root.numel() == 1:
                value = self._loss_scale.unscaled_loss(root)
                known = self.value
                if isinstance(known, Tensor) and isinstance(value, Tensor):
                    known = known.to(value.device, non_blocking=True)
                self.value = value if known is None else known + value
                is_finite = is_finite and (isinstance(value, Tensor) or math.isfinite(value))
        return is_finite

    def close(self) -> None:
        """Let the next backward call begin a new sum: the step was recorded or left out."""
        self._is_used = True

    def known(self) -> float | None:
        """Return the sum where that needs no waiting."""
        return self.value if type(self.value) is float else None

    def wait(self) -> float | None:
        """Return the sum as a float; waits for an accelerator."""
        value = self.value
        return value if value is None or type(value) is float else float(value)

    def release(self) -> None:
        """Let go of a loss that is a tensor."""
        self.value, self._is_used = None, True
