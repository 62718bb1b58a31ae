"""What every room that counts in bits shares: a dtype's largest value, a robust slope."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

LARGEST: Final = {
    "float16": 65504.0,
    "bfloat16": 3.3895313892515355e38,
    "float32": 3.4028234663852886e38,
    "float64": 1.7976931348623157e308,
}
"""Largest finite value of a dtype."""


def theil_sen(x: ArrayLike, y: ArrayLike) -> float:
    """Return the median of the slopes between all pairs of points; 0 for fewer than two.

    A third of the points may be arbitrarily wrong. Source: Sen (1968), JASA 63, 1379-1389.

    Example:
        >>> theil_sen([0, 1, 2, 3], [0, 2, 4, 100])
        2.0
    """
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    first, second = all_pairs(len(xs))
    run = xs[second] - xs[first]
    apart = run != 0
    if not apart.any():
        return 0.0
    return float(np.median((ys[second] - ys[first])[apart] / run[apart]))


@lru_cache(maxsize=128)
def all_pairs(count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the indices i < j of all pairs; making them takes longer than using them."""
    first, second = np.triu_indices(count, 1)
    return first, second
