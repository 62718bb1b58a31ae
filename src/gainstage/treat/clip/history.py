"""Clipping whose limit follows from the norms of earlier steps: AutoClip and ZClip."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from gainstage.errors import ConfigError
from gainstage.norms.clip import clip_coefficient, clip_grad_norm_


@dataclass(slots=True)
class AutoClip:
    """Clip by global norm at a percentile of all norms so far (Seetharaman et al. 2020).

    The norm of the step itself counts, before it is clipped. A norm that is not finite does not.
    Costs what `clip_by_global_norm_` does, and 8 bytes and a partial sort of them a step.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(1))
        >>> clip = AutoClip(percentile=50)
        >>> for norm in (1.0, 3.0, 8.0):
        ...     weight.grad = torch.tensor([norm])
        ...     limit = clip.clip_([weight])
        >>> limit, round(weight.grad.item(), 4)
        (3.0, 3.0)
    """

    percentile: float = 10.0
    """Of the norms so far, between 0 and 100. At 10 nine steps of ten are clipped, as the authors
    found best; the learning rate then sets the length of a step, as in normalised descent."""
    norms: list[float] = field(default_factory=list[float])
    """Those of earlier steps."""

    def __post_init__(self) -> None:
        if not 0 < self.percentile < 100:
            raise ConfigError(f"percentile must be above 0 and below 100, got {self.percentile!r}")

    def clip_(self, parameters: Iterable[Tensor]) -> float:
        """Clip the gradients of a step by the limit that its norm and earlier ones give.

        Returns:
            The limit, inf where no norm has been finite yet.
        """
        return _clip(self, parameters)

    def limit_of(self, grad_norm: float) -> float:
        """Return the limit for a step with this norm, and remember the norm."""
        if math.isfinite(grad_norm):
            self.norms.append(grad_norm)
        return float(np.percentile(self.norms, self.percentile)) if self.norms else math.inf

    def state_dict(self) -> dict[str, Any]:
        """Return the history, for a checkpoint."""
        return {"norms": list(self.norms)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved history."""
        self.norms = [float(norm) for norm in state["norms"]]


@dataclass(slots=True)
class ZClip:
    """Clip by global norm where the norm is an outlier of its own moving mean (Kumar et al. 2025).

    With z = (norm − mean) / std above `z`, the limit is mean + std · z² / ours, so that a worse
    spike is cut deeper. Mean and variance are exponential moving averages, begun after `warm_up`
    steps with those of these, and fed with the clipped norm. Costs as `clip_by_global_norm_`.
    """

    alpha: float = 0.97
    """Share of the old mean and variance in the new one."""
    z: float = 2.5
    """Standard deviations from which on a norm is an outlier."""
    warm_up: int = 25
    """Steps without a limit of its own, 2 or more."""
    max_norm: float = math.inf
    """A fixed limit besides, which also holds during the warm-up."""
    mean: float = field(default=0.0, kw_only=True)
    variance: float = field(default=0.0, kw_only=True)
    first: list[float] = field(default_factory=list[float], kw_only=True)
    """Norms of the warm-up, while it lasts."""
    begun: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if not (0 < self.alpha < 1 and self.z > 0 and self.warm_up >= 2 and self.max_norm > 0):
            raise ConfigError(
                "alpha must lie between 0 and 1, z and max_norm above 0, warm_up at 2 or more, got "
                f"{self.alpha!r}, {self.z!r}, {self.max_norm!r}, {self.warm_up!r}"
            )

    def clip_(self, parameters: Iterable[Tensor]) -> float:
        """Clip the gradients of a step.

        Returns:
            The limit, inf where the norm is no outlier.
        """
        return _clip(self, parameters)

    def limit_of(self, grad_norm: float) -> float:
        """Return the limit for a step with this norm, and take the norm into the averages."""
        if not math.isfinite(grad_norm):
            return self.max_norm
        if not self.begun:
            self._warm(min(grad_norm, self.max_norm))
            return self.max_norm
        std = math.sqrt(self.variance)
        limit = self.max_norm
        if grad_norm > self.mean + self.z * std:
            # z² / ours, written so that a std of 0 gives the mean.
            limit = min(limit, self.mean + self.z**2 * self.variance / (grad_norm - self.mean))
        norm = min(grad_norm, limit)
        self.variance = self.alpha * self.variance + (1 - self.alpha) * (norm - self.mean) ** 2
        self.mean = self.alpha * self.mean + (1 - self.alpha) * norm
        return limit

    def _warm(self, norm: float) -> None:
        self.first.append(norm)
        if len(self.first) >= self.warm_up:
            self.mean, self.variance = float(np.mean(self.first)), float(np.var(self.first))
            self.first, self.begun = [], True

    def state_dict(self) -> dict[str, Any]:
        """Return the averages, for a checkpoint."""
        state = asdict(self)
        return {name: state[name] for name in ("mean", "variance", "first", "begun")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from saved averages."""
        self.mean, self.variance = float(state["mean"]), float(state["variance"])
        self.first, self.begun = [float(norm) for norm in state["first"]], bool(state["begun"])


def _clip(kind: AutoClip | ZClip, parameters: Iterable[Tensor]) -> float:
    listed = [parameter for parameter in parameters if parameter.grad is not None]
    norm = float(clip_grad_norm_(listed, math.inf))
    limit = kind.limit_of(norm)
    if math.isfinite(norm) and clip_coefficient(limit, norm) < 1.0:
        clip_grad_norm_(listed, limit)
    return limit
