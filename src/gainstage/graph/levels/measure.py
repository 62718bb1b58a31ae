"""The level of a tensor, and of several together, in bits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gainstage.readable import is_readable


@dataclass(frozen=True, slots=True)
class TensorLevels:
    """Norm and largest magnitude of a tensor, still where it lies."""

    norm: Tensor
    """2-norm, a 0-d tensor in float64 where the device has it."""
    largest: Tensor
    """Largest magnitude, a 0-d tensor."""
    numel: int
    dtype: torch.dtype


def levels_of(tensor: Tensor) -> TensorLevels | None:
    """Return the levels of a tensor; None of one that is empty, not readable or no float.

    Call it under `no_grad`. What `expand` has repeated is read once: that changes no level.
    """
    if not is_readable(tensor) or not tensor.numel():
        return None
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return None
    numel = tensor.numel()
    plain = tensor.detach()
    repeats = 1
    for dim, stride in enumerate(plain.stride()):
        if stride == 0 and plain.shape[dim] > 1:
            repeats *= plain.shape[dim]
            plain = plain.narrow(dim, 0, 1)
    norm = _norm(plain)
    if repeats > 1:
        norm = norm * math.sqrt(repeats)
    low, high = torch.aminmax(plain.abs() if plain.is_complex() else plain)
    return TensorLevels(norm, torch.maximum(low.neg(), high), numel, tensor.dtype)


def _norm(plain: Tensor) -> Tensor:
    """Return the 2-norm, exact over the whole range of the dtype."""
    complex_ = plain.is_complex()
    if plain.is_cpu and plain.dtype in (torch.float32, torch.float16, torch.bfloat16):
        # Squares in float32 overflow from 2^64 on: only then is the slow way taken.
        norm = torch.linalg.vector_norm(plain, 2.0, dtype=torch.float32)
        if 2.0**-50 < norm.item() < math.inf:
            return norm
    if plain.device.type == "mps":
        return torch.linalg.vector_norm(plain, 2.0)
    wide = torch.complex128 if complex_ else torch.float64
    return torch.linalg.vector_norm(plain, 2.0, dtype=wide)


def level_bits(norms: Sequence[float], numels: Sequence[int]) -> float:
    """Return log2 of the root mean square of tensors taken together; inf if one is not finite."""
    if not norms:
        return math.nan
    total = math.hypot(*norms)
    if not math.isfinite(total):
        return math.inf
    return math.log2(total) - 0.5 * math.log2(sum(numels)) if total else -math.inf


def magnitude_bits(largest: Sequence[float]) -> float:
    """Return log2 of the largest magnitude; inf if one is not finite."""
    if not largest:
        return math.nan
    if not all(map(math.isfinite, largest)):
        return math.inf
    top = max(largest)
    return math.log2(top) if top else -math.inf
