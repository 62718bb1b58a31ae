"""Robust statistics of short series: trend test, baseline, headroom."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gainstage.bits import LARGEST, all_pairs, theil_sen
from gainstage.facts.blocks import StepBlock
from gainstage.facts.tensor import TensorInfo

_WINDOW = 64


def rises_by(y: ArrayLike, slope: float) -> bool:
    """Tell whether half of all pairs rise by `slope` a place or more: else Theil–Sen's is less.

    The same pairs, only counted: of a thousand values in a fiftieth of the time.
    """
    left = np.asarray(y, dtype=np.float64)
    # Rounding must not turn away a slope that is exactly the one asked for.
    left = left - (slope - abs(slope) * 1e-6) * np.arange(len(left))
    before: list[float] = []
    rising = 0
    for value in left.tolist():
        place = bisect_right(before, value)
        before.insert(place, value)
        rising += place
    return 4 * rising >= len(left) * (len(left) - 1)


def mann_kendall(y: ArrayLike) -> float:
    """Return the z-score of a monotone trend: above 2.3 the series rises with 99% confidence.

    Without a correction for ties. Source: Mann (1945), Econometrica 13, 245-259; Kendall (1975).
    """
    ys = _pairs(y)
    count = len(ys)
    if count < 3:
        return 0.0
    first, second = all_pairs(count)
    score = float(np.sign(ys[second] - ys[first]).sum())
    spread = math.sqrt(count * (count - 1) * (2 * count + 5) / 18.0)
    return (score - math.copysign(1.0, score)) / spread if score else 0.0


def robust_baseline(x: ArrayLike) -> tuple[float, float]:
    """Return the median, and the standard deviation that the median absolute deviation implies.

    The factor 1.4826 makes it that of a normal distribution.
    """
    xs = _pairs(x)
    if not len(xs):
        return math.nan, math.nan
    middle = float(np.median(xs))
    return middle, 1.4826 * float(np.median(np.abs(xs - middle)))


def headroom_bits(norm: float, dtype: str) -> float:
    """Return how many bits are left before the dtype overflows, at least.

    A lower bound, for the norm of a tensor is never below its largest magnitude.
    """
    if not 0 < norm < math.inf:
        return math.inf if norm == 0 else 0.0
    return math.log2(LARGEST.get(dtype, LARGEST["float32"])) - math.log2(norm)


def steepest_growth(
    block: StepBlock, tensors: Sequence[TensorInfo], count: int
) -> list[tuple[int, float, float]]:
    """Return the tensors whose gradients grow fastest at the end of a record.

    Returns:
        At most `count` of (index, bits per step, headroom bits), the steepest first; the slope is
        Theil-Sen's over the last 64 finite norms, the headroom a lower bound at the last of them.
    """
    found: list[tuple[int, float, float]] = []
    for index in range(min(len(tensors), block.grad_norms.shape[1])):
        norms = block.grad_norms[:, index].astype(np.float64)
        usable = np.flatnonzero(block.present[:, index] & np.isfinite(norms) & (norms > 0))
        usable = usable[-_WINDOW:]
        if len(usable) < 2:
            continue
        slope = theil_sen(block.step[usable], np.log2(norms[usable]))
        found.append((index, slope, headroom_bits(float(norms[usable[-1]]), tensors[index].dtype)))
    return sorted(found, key=lambda each: -each[1])[:count]


def _pairs(values: ArrayLike) -> NDArray[Any]:
    return np.asarray(values, dtype=np.float64)
