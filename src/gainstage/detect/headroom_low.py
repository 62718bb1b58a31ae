"""`headroom-low`: what an operation put out is close to its dtype's largest value.

Only what was put out in the forward pass counts: a loss scaler drives gradients up to the limit on
purpose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gainstage.bits import LARGEST
from gainstage.detect.sign import Sign
from gainstage.records import ProfileBlock

LOW_BITS = {"float16": 2.0, "bfloat16": 16.0, "float32": 16.0}
"""float16 has 16 bits in all, and a healthy activation may use most of them."""


@dataclass(slots=True)
class Headroom:
    """Online state: the smallest headroom that was told."""

    told_bits: float = math.inf


def look(state: Headroom, block: ProfileBlock) -> Sign | None:
    """Return a sign if an output of a sampled graph has less headroom left than was told."""
    lowest: tuple[float, str, int] | None = None
    for dtype, low in LOW_BITS.items():
        limit = math.log2(LARGEST[dtype])
        # The headroom is the smaller of output and gradient: where it is the output's, it adds up.
        with np.errstate(invalid="ignore"):  # inf - inf is no number, and no row to look at
            rows = np.abs(block.forward_max_bits + block.headroom_bits - limit) < 0.01
        rows &= (block.headroom_bits < low) & np.isfinite(block.headroom_bits)
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
