"""`headroom-low`: what an operation put out is close to its dtype's largest value.

Only what was put out in the forward pass counts: a loss scaler drives gradients up to the limit on
purpose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gainstage.bits import LARGEST
from gainstage.detect.series.sign import Sign
from gainstage.facts.blocks import ProfileBlock

LOW_BITS = {"float16": 2.0, "bfloat16": 16.0, "float32": 16.0}
"""float16 has 16 bits in all, and a healthy activation may use most of them."""

_APART_BITS = 0.002
"""float32's and bfloat16's largest values are 0.0056 bits apart."""
_MASK_BITS = 0.001
"""What is at the very limit was put there: a mask of the dtype's smallest value."""


@dataclass(slots=True)
class Headroom:
    """Online state: the smallest headroom that was told."""

    told_bits: float = math.inf


def look(state: Headroom, block: ProfileBlock) -> Sign | None:
    """Return a sign if an output of a sampled graph has less headroom left than was told."""
    lowest: tuple[float, str, int] | None = None
    for dtype, low in LOW_BITS.items():
        rows = outputs_below(block, dtype, low)
        if rows.any():
            at = int(np.flatnonzero(rows)[np.argmin(block.headroom_bits[rows])])
            left = float(block.headroom_bits[at])
            if lowest is None or left < lowest[0]:
                lowest = (left, dtype, at)
    if lowest is None or lowest[0] > state.told_bits - 1.0:
        return None
    left, dtype, at = lowest
    state.told_bits = left
    step = int(block.step[at])
    return Sign(
        "headroom-low",
        "level",
        "warning",
        step,
        f"an output has {left:.1f} bits left before {dtype} overflows at step {step}",
        last_step=step,
        evidence={"headroom_bits": left, "dtype": dtype, "site": int(block.site[at])},
    )


def outputs_below(block: ProfileBlock, dtype: str, bits: float) -> NDArray[np.bool_]:
    """Return which rows are of a dtype and have outputs with less than so many bits of headroom."""
    rows = (block.headroom_bits < bits) & np.isfinite(block.headroom_bits)
    rows &= np.isfinite(block.forward_max_bits)
    # The headroom is the smaller of output and gradient: where it is the output's, it adds up.
    rows &= block.headroom_bits > _MASK_BITS
    both = np.where(rows, block.forward_max_bits, 0) + np.where(rows, block.headroom_bits, 0)
    return rows & (np.abs(both - math.log2(LARGEST[dtype])) < _APART_BITS)
