"""Clipping functions for any training loop; `gainstage.treat.clip` has them all."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gainstage.errors import ConfigError
from gainstage.norms.clip import clip_coefficient, scale_gradients_
from gainstage.norms.total import combine_norms
from gainstage.treat.clip.norms_of import norms_of


def clip_by_global_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float = 1.0, *, norm_type: float = 2.0
) -> float:
    """Scale all gradients by min(1, max_norm / norm), their norm taken together.

    Pascanu, Mikolov & Bengio (2013). Their direction is kept. Costs one read, and one write on the
    steps that are clipped. `gainstage.clip_grad_norm_` is the same with torch's signature.

    Args:
        parameters: Tensors whose `.grad` is clipped, or one; those without a gradient are left out.
        max_norm: Largest norm allowed, above 0. 1 is usual; see `clip_coefficient` in the record.
        norm_type: The p of the p-norm, `math.inf` for the largest magnitude.

    Returns:
        The norm before clipping; inf or nan if a gradient holds one, and nothing is written then.

    Raises:
        ConfigError: If `max_norm` or `norm_type` is not above 0.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(2))
        >>> weight.grad = torch.tensor([3.0, 4.0])
        >>> clip_by_global_norm_(weight, 2.0)
        5.0
        >>> weight.grad
        tensor([1.2000, 1.6000])
    """
    _check_positive("max_norm", max_norm)
    _check_positive("norm_type", norm_type)
    grads = _grads_of(parameters)
    norm = combine_norms(norms_of(grads, norm_type), norm_type)
    if math.isfinite(norm):
        scale_gradients_(grads, clip_coefficient(max_norm, norm), foreach=None)
    return norm


def clip_by_value_(parameters: Tensor | Iterable[Tensor], value: float = 1.0) -> None:
    """Limit every entry of every gradient to [-value, value].

    Mikolov (2012). Costs one read and one write on every step. The direction is not kept: large
    entries are cut, small ones are not. An inf becomes `value`, a NaN stays.

    Raises:
        ConfigError: If `value` is not above 0.
    """
    _check_positive("value", value)
    grads = _grads_of(parameters)
    with torch.no_grad():
        for grad in grads:
            grad.clamp_(-value, value)


def clip_per_parameter_(
    parameters: Tensor | Iterable[Tensor], max_norm: float = 1.0, *, norm_type: float = 2.0
) -> list[float]:
    """Scale each parameter's gradient by itself, so that its own norm is at most `max_norm`.

    A parameter with a huge gradient does not starve the others, as it does by global norm; in
    return the direction of the whole is not kept, only of each part. Costs what
    `clip_by_global_norm_` does.

    Returns:
        Each gradient's norm before clipping.

    Raises:
        ConfigError: If `max_norm` or `norm_type` is not above 0.

    Example:
        >>> large, small = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
        >>> large.grad, small.grad = torch.tensor([100.0]), torch.tensor([0.1])
        >>> clip_per_parameter_([large, small], 1.0)
        [100.0, 0.10000000149011612]
        >>> large.grad, small.grad
        (tensor([1.]), tensor([0.1000]))
    """
    _check_positive("max_norm", max_norm)
    _check_positive("norm_type", norm_type)
    grads = _grads_of(parameters)
    norms = norms_of(grads, norm_type)
    for grad, norm in zip(grads, norms, strict=True):
        if norm < math.inf:
            scale_gradients_([grad], clip_coefficient(max_norm, norm), foreach=False)
    return norms


def clip_per_group_(
    optimizer: Optimizer, max_norm: float = 1.0, *, norm_type: float = 2.0
) -> list[float]:
    """Scale the gradients of each of an optimizer's parameter groups by the group's own norm.

    The direction is kept within a group. Costs as `clip_by_global_norm_`.

    Returns:
        Each group's norm before clipping, 0 for one without gradients.

    Raises:
        ConfigError: If `max_norm` or `norm_type` is not above 0.
    """
    groups: list[dict[str, Any]] = optimizer.param_groups
    return [
        clip_by_global_norm_(group["params"], max_norm, norm_type=norm_type) for group in groups
    ]


def clip_adaptive_(
    parameters: Tensor | Iterable[Tensor], clipping: float = 0.01, *, eps: float = 1e-3
) -> int:
    """Limit the norm of each unit's gradient to a share of the norm of its weights (AGC).

    Brock, De, Smith & Simonyan (2021): g ← g · clipping · max(‖w‖, eps) / ‖g‖ where that is below
    1, unit by unit: rows of a linear layer, filters of a convolution; vectors and scalars as one.
    The authors leave the last linear layer out: pass the parameters without it. Costs one read of
    weights and of gradients and one write on every step; norms are taken in float64 where the
    device has it. The direction is kept within a unit only.

    Args:
        parameters: Tensors whose `.grad` is clipped, or one.
        clipping: Largest ratio of the two norms, above 0; 0.01 in the paper for large batches.
        eps: Smallest weight norm that counts, so that weights of 0 can move.

    Returns:
        How many units were clipped.

    Raises:
        ConfigError: If `clipping` or `eps` is not above 0.
    """
    _check_positive("clipping", clipping)
    _check_positive("eps", eps)
    listed = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    clipped = 0
    with torch.no_grad():
        for parameter in listed:
            if parameter.grad is None:
                continue
            limit = _unit_norms(parameter).clamp_(min=eps).mul_(clipping)
            norm = _unit_norms(parameter.grad)
            above = (norm > limit) & norm.isfinite()
            clipped += int(above.sum())
            factor = torch.where(above, limit / norm, 1.0)
            parameter.grad.mul_(factor.to(torch.promote_types(parameter.grad.dtype, torch.float32)))
    return clipped


def _unit_norms(tensor: Tensor) -> Tensor:
    """Return the norm of each unit, shaped so that it broadcasts against the tensor."""
    wide = torch.float32 if tensor.device.type == "mps" else torch.float64
    within = tuple(range(1, tensor.dim())) if tensor.dim() > 1 else None
    return torch.linalg.vector_norm(tensor.detach(), 2.0, within, keepdim=True, dtype=wide)


def _grads_of(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    listed = [parameters] if isinstance(parameters, Tensor) else parameters
    return [grad for parameter in listed if (grad := parameter.grad) is not None]


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ConfigError(f"{name} must be above 0, got {value!r}")
