"""`gainstage.clip_grad_norm_`: torch's function with the right norm and half of its work."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import torch
from torch import Tensor

from gainstage.errors import ConfigError
from gainstage.norms.sums import EXACT_ROW, is_dense_cpu, norm_of
from gainstage.norms.total import combine_norms, gradient_norms

_STABILITY: Final = 1e-6
"""Added to the norm before dividing, as torch does, so that a norm of 0 does not divide by 0."""
_SMALLEST_FACTOR: Final = 2.0**-100
"""Below it a float32 factor would lose bits to underflow: the scaling is done in two strokes."""


def clip_coefficient(max_norm: float, grad_norm: float) -> float:
    """Return min(1, max_norm / (grad_norm + 1e-6)), the factor of torch's `clip_grad_norm_`."""
    if max_norm == math.inf:
        return 1.0
    coefficient = max_norm / (grad_norm + _STABILITY)
    return 1.0 if coefficient > 1.0 else coefficient


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale gradients in place so that their norm, taken together, is at most `max_norm`.

    A drop-in for `torch.nn.utils.clip_grad_norm_`. It differs where torch's is wrong or wasteful:
    the norm is exact over the whole range of the dtype (torch's is inf once values pass 2^64, and
    then finite gradients are multiplied by 0), nothing is written where nothing is to be scaled,
    and `max_norm=math.inf` only reads. Call it after unscaling and before `optimizer.step()`.

    Sparse and DTensor gradients, and those of other devices, go to torch's own function.

    Args:
        parameters: Tensors whose `.grad` is clipped, or one; those without a gradient are left out.
        max_norm: Largest norm allowed, at least 0.
        norm_type: The p of the p-norm, `math.inf` for the largest magnitude.
        error_if_nonfinite: Raise instead of scaling by a norm that is inf or nan.
        foreach: As in torch: False scales tensor by tensor.

    Returns:
        The norm before clipping: a 0-d float32 tensor, float64 where a gradient is float64 or
        float32 cannot hold the norm.

    Raises:
        ConfigError: If `max_norm` is negative or nan.
        RuntimeError: If the norm is not finite and `error_if_nonfinite` is set.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(2))
        >>> weight.grad = torch.tensor([3.0, 4.0])
        >>> clip_grad_norm_([weight], max_norm=1.0)
        tensor(5.)
    """
    listed = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    max_norm, norm_type = float(max_norm), float(norm_type)
    if not max_norm >= 0:
        raise ConfigError(f"max_norm must be 0 or more, got {max_norm!r}")
    grads = [grad for parameter in listed if (grad := parameter.grad) is not None]
    if not norm_type > 0 or not all(map(is_dense_cpu, grads)):
        return torch.nn.utils.clip_grad_norm_(
            listed, max_norm, norm_type, error_if_nonfinite, foreach
        )
    if norm_type == 2.0:
        norm = gradient_norms(grads, row=EXACT_ROW)[1] or 0.0
    else:
        norm = combine_norms([norm_of(grad, norm_type) for grad in grads], norm_type)
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(
            f"the total norm of order {norm_type} of the gradients is {norm}, so it cannot be "
            "clipped; error_if_nonfinite=False scales the gradients by it anyway"
        )
    scale_gradients_(grads, clip_coefficient(max_norm, norm), foreach=foreach)
    return torch.scalar_tensor(norm, dtype=_holding(norm, grads))


def scale_gradients_(grads: list[Tensor], coefficient: float, *, foreach: bool | None) -> None:
    """Multiply gradients by a factor in place; by 1 nothing is written, which gives the same bits.

    Autograd does not see it, as with torch's own clipping.
    """
    if coefficient == 1.0 or not grads:
        return
    if 0.0 < coefficient < _SMALLEST_FACTOR:
        stroke = math.sqrt(coefficient)
        scale_gradients_(grads, stroke, foreach=foreach)
        scale_gradients_(grads, coefficient / stroke, foreach=foreach)
        return
    with torch.no_grad():
        for dtype in dict.fromkeys(grad.dtype for grad in grads):
            same = [grad for grad in grads if grad.dtype is dtype]
            factor = torch.scalar_tensor(
                coefficient, dtype=torch.promote_types(dtype, torch.float32)
            )
            if foreach is None or foreach:
                torch._foreach_mul_(same, factor)
            else:
                for grad in same:
                    grad.mul_(factor)


def _holding(norm: float, grads: list[Tensor]) -> torch.dtype:
    wide = any(grad.dtype is torch.float64 for grad in grads)
    if not wide and math.isfinite(norm) and norm > torch.finfo(torch.float32).max:
        wide = True
    return torch.float64 if wide else torch.float32
