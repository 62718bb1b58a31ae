"""Clipping of what the optimizer writes, rather than of what it reads."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gainstage.errors import ConfigError
from gainstage.treat.clip.norms_of import norms_of


@dataclass(slots=True)
class UpdateClip:
    """Limit the root mean square of every tensor's update, in units of the learning rate.

    Shazeer & Stern (2018, Adafactor) and Wortsman et al. (2023, StableAdamW) divide an update by
    max(1, RMS) within their optimizers. Here it is done from outside to any optimizer: what it has
    written is compared with what was there before, weight decay included, and shortened. It reaches
    what clipping of gradients cannot: Adam's update after a jump of the gradient, when its second
    moment is still that of the small gradients before. Its direction is kept in each tensor. Costs
    a copy of all parameters and about three passes over them a step.

    Example:
        >>> clip = UpdateClip()
        >>> clip.before(optimizer)  # doctest: +SKIP
        >>> optimizer.step()  # doctest: +SKIP
        >>> clip.clip_(optimizer)  # doctest: +SKIP
    """

    rms: float = 1.0
    """Largest root mean square of update / lr, above 0."""
    _before: list[tuple[Tensor, Tensor, float]] = field(
        default_factory=list[tuple[Tensor, Tensor, float]], repr=False
    )

    def __post_init__(self) -> None:
        if not self.rms > 0:
            raise ConfigError(f"rms must be above 0, got {self.rms!r}")

    def before(self, optimizer: Optimizer) -> None:
        """Note the parameters and learning rates; call it right before `optimizer.step()`."""
        groups: list[dict[str, Any]] = optimizer.param_groups
        self._before = [
            (parameter, parameter.detach().clone(), float(group.get("lr", 1.0)))
            for group in groups
            for parameter in group["params"]
        ]

    def clip_(self, optimizer: Optimizer) -> int:
        """Shorten the updates that are too long; call it right after `optimizer.step()`.

        Returns:
            How many tensors were clipped. An update that is not finite is left as it is.
        """
        del optimizer
        noted, self._before = self._before, []
        with torch.no_grad():
            updates = [parameter - old for parameter, old, _ in noted]
            factors = [
                self._factor(norm, update.numel(), lr)
                for norm, update, (_, _, lr) in zip(norms_of(updates), updates, noted, strict=True)
            ]
            clipped = 0
            for (parameter, old, _), update, factor in zip(noted, updates, factors, strict=True):
                if factor < 1.0:
                    parameter.copy_(old.add_(update, alpha=factor))
                    clipped += 1
        return clipped

    def _factor(self, norm: float, count: int, lr: float) -> float:
        limit = self.rms * lr * math.sqrt(count)
        return limit / norm if limit < norm < math.inf else 1.0
