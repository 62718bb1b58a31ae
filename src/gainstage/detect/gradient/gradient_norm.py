"""S4 `gradient-norm`: the global norm is far from where the run's own norms were.

At step 0 there is no such past. A norm of 2^30 needs none: weights of ordinary size vanish below
float32's 24 bits of precision against it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gainstage.detect.series.history import CHUNK, History
from gainstage.detect.series.sign import Sign

ABSURD_BITS = 30.0
_ELASTIC = 4.0
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
    elasticity: float = 0.0
    """‖g‖/|loss| of the first absurd step, to be multiplied by the weights' norm; then 0 again."""
    step: int = 0


def weigh(state: Level, weight_bits: float) -> Sign | None:
    """Return the second sign of an absurd norm, once the weights' norm is known, in bits.

    ‖g‖·‖w‖/|loss| is how many times more the loss changes than the weights do, in relative terms.
    Targets in large units make the gradient large and this small; a network that blows its signal
    up makes both large.
    """
    elasticity = state.elasticity * 2.0 ** min(weight_bits, 1000.0)
    state.elasticity = 0.0
    if elasticity < _ELASTIC:
        return None
    return Sign(
        "gradient-norm",
        "gradient",
        "critical",
        state.step,
        f"the norm of the gradient is above 2^{ABSURD_BITS:.0f} at step {state.step}: "
        f"the loss changes {elasticity:.2g} times as much as the weights do",
        strong=True,
        last_step=state.step,
        evidence={"elasticity": elasticity},
    )


def look(state: Level, history: History, step: int, loss: float = math.nan) -> Sign | None:
    """Return a sign if the norm, in bits, stays high, or is beyond reason, at whatever step."""
    value = history.recent[-1]
    if value >= ABSURD_BITS and not state.absurd:
        state.absurd, state.step = True, step
        state.elasticity = 2.0**value / abs(loss) if loss and math.isfinite(loss) else 0.0
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
    above = value - history.reference
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
        f"the gradient norm has stayed {above:.1f} bits above its usual 2^{history.reference:.1f} "
        f"since step {step - _SUSTAINED + 1}",
        last_step=step,
        count=_SUSTAINED,
        evidence={
            "grad_norm_bits": value,
            "usual_bits": history.reference,
            "robust_z": min(above / noise, math.inf),
        },
    )
