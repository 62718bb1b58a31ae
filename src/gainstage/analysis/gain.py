"""Levels and gains in bits, and how many stages are left before a number format ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from gainstage.bits import LARGEST, theil_sen
from gainstage.errors import ConfigError

HORIZON_BITS: Final = 24.0
"""float32 has 24 bits of mantissa: what has fallen by more is lost beside what has not."""
_SLOPE_POINTS: Final = 512
"""The slope looks at all pairs, so a longer series is thinned to this many points."""


def level_bits(tensor: Tensor) -> float:
    """Return log2 of the root mean square of all elements. Waits for the device.

    Exact over the whole range of the dtype: the largest magnitude is divided out first.

    Returns:
        -inf for a tensor of zeros or without elements; inf or nan if an element is.
    """
    return float(levels_bits([tensor])[0])


def levels_bits(tensors: Sequence[Tensor]) -> NDArray[np.float64]:
    """Return the level of each tensor, waiting for the device once.

    Args:
        tensors: Dense, real or complex, of any shape, all on one device.
    """
    if not tensors:
        return np.empty(0)
    with torch.no_grad():
        pairs = torch.stack([_largest_and_mean_square(tensor) for tensor in tensors])
    largest, mean_square = pairs.cpu().double().numpy().T
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = np.log2(largest) + 0.5 * np.log2(mean_square)
    return np.where(largest == 0, -math.inf, np.where(np.isinf(largest), math.inf, bits))


def _largest_and_mean_square(tensor: Tensor) -> Tensor:
    """Return the largest magnitude, and the mean square of the tensor divided by it."""
    values = tensor.detach().abs()  # of a complex number too
    wide = values.double() if values.dtype == torch.float64 else values.float()
    if wide.numel() == 0:
        return wide.new_zeros(2)
    largest = wide.amax()
    # Two divisions, for the reciprocal of a subnormal number would be infinite.
    return torch.stack([largest, (wide / largest).square().mean()])


def gain_bits(level_in: float, level_out: float) -> float:
    """Return the gain of a stage: its level out minus its level in."""
    return level_out - level_in


def headroom_bits(largest: float, dtype: str) -> float:
    """Return how many bits a magnitude may still grow before the dtype overflows.

    Args:
        largest: The largest magnitude; a norm gives a lower bound of the headroom.
        dtype: torch's name without the prefix, such as `float16`.

    Raises:
        ConfigError: If `largest` is negative or the dtype is not a floating one.
    """
    if dtype not in LARGEST:
        raise ConfigError(f"dtype must be one of {', '.join(LARGEST)}, got {dtype!r}")
    if largest < 0:
        raise ConfigError(f"a magnitude must not be negative, got {largest!r}")
    if largest == 0:
        return math.inf
    return math.log2(LARGEST[dtype]) - math.log2(largest) if largest < math.inf else -math.inf


def slope_bits(levels: ArrayLike) -> float:
    """Return the robust slope of the levels over the stages, in bits per stage.

    Theil-Sen's, over the finite levels; 0 for fewer than two of them. A series of more than 512
    stages is thinned evenly.

    Example:
        >>> slope_bits([0.0, 1.0, 2.0, 50.0, 4.0])
        1.0
    """
    values = np.asarray(levels, dtype=np.float64)
    usable = np.flatnonzero(np.isfinite(values))
    if len(usable) > _SLOPE_POINTS:
        usable = usable[np.linspace(0, len(usable) - 1, _SLOPE_POINTS).astype(np.int64)]
    return theil_sen(usable, values[usable])


def crossover(weights: ArrayLike, slopes: ArrayLike) -> float | None:
    """Return the weight scale at which the slope passes 0 bits, between explosion and decay.

    Interpolates linearly over log2 of the scale; |w| = 1 in the linear chain.

    Args:
        weights: Scales that were tried, positive.
        slopes: The slope in bits per stage at each of them.

    Returns:
        The crossing of the smallest scale; None where the slope never changes its sign.

    Raises:
        ConfigError: If a scale is not positive.
    """
    scales, bits = np.asarray(weights, np.float64), np.asarray(slopes, np.float64)
    if (scales <= 0).any():
        raise ConfigError(f"weight scales must be positive, got {scales.min()!r}")
    order = np.argsort(scales)
    places, bits = np.log2(scales[order]), bits[order]
    for left in range(len(bits) - 1):
        low, high = bits[left], bits[left + 1]
        if low == 0:
            return float(2.0 ** places[left])
        if low * high < 0:
            share = low / (low - high)
            return float(2.0 ** (places[left] + share * (places[left + 1] - places[left])))
    return float(2.0 ** places[-1]) if len(bits) and bits[-1] == 0 else None


def stages_to_overflow(level: float, slope: float) -> dict[str, float]:
    """Return how many more stages each dtype bears at this slope.

    Args:
        level: Where the growth has arrived, in bits; a root mean square makes this an upper bound.
        slope: Bits per stage.

    Returns:
        By dtype; inf where the slope is not positive, 0 where the level is beyond the dtype.
    """
    if math.isnan(level) or math.isnan(slope):
        return dict.fromkeys(LARGEST, math.nan)
    return {
        dtype: max(0.0, math.log2(largest) - level) / slope if slope > 0 else math.inf
        for dtype, largest in LARGEST.items()
    }


def memory_horizon(slope: float) -> float:
    """Return after how many stages the gain has fallen by 24 bits; inf if it does not fall."""
    return HORIZON_BITS / -slope if slope < 0 else math.inf
