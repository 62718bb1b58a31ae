"""One norm after one module, whose parameters become the module's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd

_PREFIX = "gainstage_norm_"


def features_of(module: nn.Module, output: torch.Size) -> tuple[int, int]:
    """Return the axis of a module's output along which features lie, and their number.

    Axis 1 after a convolution and in outputs of four or more dimensions, else the last.
    """
    axis = 1 if isinstance(module, _ConvNd) or len(output) >= 4 else len(output) - 1
    return axis, int(output[axis])


class NormAfter:
    """LayerNorm, RMSNorm or BatchNorm of a module's output.

    Parameters and statistics are registered on the module itself, under names that begin with
    `gainstage_norm_`, so that `parameters()`, `state_dict()` and `to()` reach them; a child module
    would run a second time in an `nn.Sequential`. In a process group there are no parameters: a
    reducer that was made without them would not average their gradients.
    """

    def __init__(self, module: nn.Module, kind: str, axis: int, width: int, eps: float) -> None:
        self._module = module
        self._kind = kind
        self._axis = axis
        self._eps = eps
        like = next(module.parameters(), torch.empty(0))
        ones = torch.ones(width, dtype=like.dtype, device=like.device)
        self._weight: nn.Parameter | None = None
        self._bias: nn.Parameter | None = None
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            self._weight = nn.Parameter(ones)
            module.register_parameter(f"{_PREFIX}weight", self._weight)
            if kind != "rms":
                self._bias = nn.Parameter(torch.zeros_like(ones))
                module.register_parameter(f"{_PREFIX}bias", self._bias)
        if kind == "batch":
            module.register_buffer(f"{_PREFIX}mean", torch.zeros_like(ones, dtype=torch.float32))
            module.register_buffer(f"{_PREFIX}var", torch.ones_like(ones, dtype=torch.float32))

    def of(self, output: Tensor) -> Tensor:
        """Return the output normalised, in its own dtype."""
        if self._kind == "batch":
            normal = self._batch_norm(output)
        elif self._axis == output.dim() - 1:
            normal = self._over(output.float(), (-1,))
        else:
            normal = self._over(output.float(), tuple(range(1, output.dim())))
        return normal.to(output.dtype)

    def _over(self, output: Tensor, dims: tuple[int, ...]) -> Tensor:
        if self._kind == "layer":
            output = output - output.mean(dims, keepdim=True)
        # Two strokes, so that squares of an exploding level do not overflow.
        largest = output.detach().abs().amax(dims, keepdim=True).clamp(min=1.0)
        output = output / largest
        eps = self._eps / largest**2
        normal = output * torch.rsqrt(output.square().mean(dims, keepdim=True) + eps)
        shape = [1] * output.dim()
        shape[self._axis] = -1
        if self._weight is not None:
            normal = normal * self._weight.view(shape)
        return normal if self._bias is None else normal + self._bias.view(shape)

    def _batch_norm(self, output: Tensor) -> Tensor:
        moved = output.movedim(self._axis, 1)
        # The last batch of an epoch may be small: then the running statistics do.
        training = self._module.training and output.shape[0] >= 8
        mean, var = getattr(self._module, f"{_PREFIX}mean"), getattr(self._module, f"{_PREFIX}var")
        normal = F.batch_norm(
            moved.float(), mean, var, self._weight, self._bias, training, eps=self._eps
        )
        return normal.movedim(1, self._axis)

    def join(self, optimizers: Sequence[Any]) -> bool:
        """Put the parameters into the group that holds the module's; tell whether one does.

        Into the group rather than a new one: the rate, the schedule and the decay are then those of
        the module, and a scheduler with one entry a group still fits.
        """
        own = [parameter for parameter in (self._weight, self._bias) if parameter is not None]
        if not own:
            return True
        ours = {id(parameter) for parameter in own}
        beside = {id(each) for each in self._module.parameters() if id(each) not in ours}
        for group in _groups(optimizers):
            if any(id(parameter) in beside for parameter in group["params"]):
                group["params"].extend(own)
                return True
        return False

    def remove(self, optimizers: Sequence[Any]) -> None:
        """Take parameters and statistics off the module and out of the optimizers."""
        own = {id(parameter) for parameter in (self._weight, self._bias) if parameter is not None}
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["params"][:] = [each for each in group["params"] if id(each) not in own]
            for parameter in (self._weight, self._bias):
                if parameter is not None:
                    optimizer.state.pop(parameter, None)
        for name in ("weight", "bias", "mean", "var"):
            if hasattr(self._module, _PREFIX + name):
                delattr(self._module, _PREFIX + name)


def _groups(optimizers: Sequence[Any]) -> Iterator[dict[str, Any]]:
    for optimizer in optimizers:
        yield from optimizer.param_groups
