"""S4 `gradient-norm`: the global norm is far from where the run's own norms were.

At step 0 there is no such past. A norm of 2^30 needs none: weights of ordinary size vanish below
float32's 24 bits of precision against it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gainstage.detect.history import CHUNK, History
from gainstage.detect.sign import Sign

ABSURD_BITS = 30.0
_FEWEST = 2 * CHUNK
_LEAST_NOISE_BITS = 0.25
_Z = 8.0
_LEAST_BITS = 6.0
_SUSTAINED = 8


@dataclass(slots=True)
class Level:
    """Online state: for how many steps the norm has been high, and whether it was absurd."""

    high: int = 0
    absurd: bool = False


def look(state: Level, history: History, step: int) -> Sign | None:
    """Return a sign if the norm, in bits, stays high, or is beyond reason, at whatever step."""
    value = history.recent[-1]
    if value >= ABSURD_BITS and not state.absurd:
        state.absurd = True
        when = "on the first step already" if history.count == 1 else f"at step {step}"
        return Sign(
            "gradient-norm",
            "gradient",
            "warning",
            step,
            f"the gradient norm is {2.0**value:.2g} (2^{value:.0f}) {when}",
            strong=True,
            last_step=step,
            evidence={"grad_norm_bits": value},
        )
    above = value - history.level
    if history.count < _FEWEST or above < _LEAST_BITS:
        state.high = 0
        return None
    noise = max(history.noise, _LEAST_NOISE_BITS)
    state.high = state.high + 1 if above / noise >= _Z else 0
    if state.high == 0 or state.high % _SUSTAINED:
        return None
    return Sign(
        "gradient-norm",
        "gradient",
        "warning",
        step,
        f"the gradient norm has stayed {above:.1f} bits above its usual 2^{history.level:.1f} "
        f"since step {step - _SUSTAINED + 1}",
        last_step=step,
        count=_SUSTAINED,
        evidence={
            "grad_norm_bits": value,
            "usual_bits": history.level,
            "robust_z": min(above / noise, math.inf),
        },
    )
