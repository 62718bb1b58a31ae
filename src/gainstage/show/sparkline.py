"""A series as one line of text."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII = "_.-=+*%#"


def sparkline(values: Sequence[float], width: int, *, ascii_only: bool = False) -> str:
    """Return a series as at most `width` characters, in order.

    Each character shows the maximum of its share of the values, so that a spike of one step stays
    to be seen; a share that holds NaN is a ×, one that holds inf (and no NaN) a ∞.

    Example:
        >>> sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8)
        '▁▂▃▄▅▆▇█'
    """
    ramp = _ASCII if ascii_only else _BLOCKS
    nan, infinite = "x^" if ascii_only else "×∞"
    shares = _shares(values, width)
    finite = [value for share in shares for value in share if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    drawn: list[str] = []
    for share in shares:
        known = [value for value in share if math.isfinite(value)]
        if any(math.isnan(value) for value in share):
            drawn.append(nan)
        elif any(value == math.inf for value in share):
            drawn.append(infinite)
        elif not known:
            drawn.append(ramp[0])
        else:
            height = (max(known) - low) / (high - low) if high > low else 0.0
            drawn.append(ramp[min(int(height * len(ramp)), len(ramp) - 1)])
    return "".join(drawn)


def _shares(values: Sequence[float], width: int) -> list[Sequence[float]]:
    count = min(len(values), max(width, 1))
    edges = [round(i * len(values) / count) for i in range(count + 1)] if count else [0]
    return [values[a:b] for a, b in itertools.pairwise(edges)]
