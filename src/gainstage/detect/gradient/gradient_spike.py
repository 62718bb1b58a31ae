"""`gradient-spike`: an isolated outlier of the global norm, told when it is over."""

from __future__ import annotations

from dataclasses import dataclass

from gainstage.detect.series.history import CHUNK, History
from gainstage.detect.series.sign import Sign

_FEWEST = 2 * CHUNK
_Z = 8.0
_LEAST_BITS = 3.0
_OVER_BITS = 1.5
_LONGEST = 32
_HARMLESS = frozenset({"gradient-growth", "gradient-norm", "overflow-forecast"})
"""What a spike looks like while it rises: nobody can tell before it has come back."""


@dataclass(slots=True)
class Spike:
    """Online state: the spike that is going on."""

    began: int = -1
    steps: int = 0
    peak: float = 0.0
    loss_before: float | None = None
    told_down: bool = True


def look(state: Spike, history: History, loss: History, step: int) -> Sign | None:
    """Return a note once the norm, in bits, has come back from an outlier."""
    value = history.recent[-1]
    above = value - history.level
    if state.began < 0:
        if history.count >= _FEWEST and above >= max(_Z * history.noise, _LEAST_BITS):
            state.began, state.steps, state.peak = step, 1, above
            state.loss_before = loss.level if loss.count else None
        return None
    state.steps += 1
    state.peak = max(state.peak, above)
    if state.steps > _LONGEST:
        # No spike but a new level: what that means is for the other detectors.
        state.began = -1
        return None
    if above > _OVER_BITS:
        return None
    began, state.began = state.began, -1
    return Sign(
        "gradient-spike",
        "gradient",
        "info",
        began,
        f"the gradient norm rose {state.peak:.1f} bits above its level at step {began} and was "
        f"back after {state.steps} steps",
        last_step=step,
        settles=_HARMLESS,
        evidence={"peak_bits": state.peak, "steps": state.steps},
    )
