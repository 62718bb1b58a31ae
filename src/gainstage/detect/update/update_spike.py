"""`update-spike`: a step about to move the weights by as much as they are.

The update itself is not in the record. Measured is lr·c·‖g‖/‖w‖ in bits, with c the clip
coefficient: the update ratio of plain gradient descent. Adam divides the gradient's size out, so
the ratio alone is no sign; told is a jump of the gradient that brings it above 0 bits while the
loss is out of all bounds. Every optimizer's update grows with the learning rate: told too is one
that climbs, step after step, far beyond all that the run has known, and of Adam one that rewrites
the weights within two steps, whatever the gradient is.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from gainstage.detect.series.history import History
from gainstage.detect.series.sign import Sign
from gainstage.facts.tensor import TensorInfo

_JUMP_BITS = 6.0
_AT_ONCE_BITS = 3.0
_USUAL_BITS = -3.0
"""Plain gradient descent that moves the weights by an eighth of themselves a step does not last."""
_PAST = 8
_WINDOW = 48
"""Steps within which a rate climbs; a warm-up takes longer, or begins with the run."""
_KNOWN = 32
_CLIMB = 6.0
_REWRITES = 0.5
"""Of the weights' norm, what an update of Adam moves; at its usual rate it is a fiftieth."""
_RISES = 4
"""A single jump is a change of plan."""


@dataclass(slots=True)
class Rate:
    """Online state: the learning rates of the last steps, and the highest before them."""

    recent: deque[float] = field(default_factory=lambda: deque[float](maxlen=_WINDOW))
    highest: float = 0.0
    before: int = 0
    is_told: bool = False


@dataclass(slots=True)
class Update:
    """Online state: a jump of the step before, whose consequence is awaited."""

    waiting: bool = False


def look(
    state: Update, history: History, *, ratio_bits: float, is_loss_out: bool, step: int
) -> Sign | None:
    """Return a sign if the norm has jumped, the loss is out of bounds and the update would be too.

    Args:
        state: Changed.
        history: The global norm in bits, this step's included.
        ratio_bits: Of this step; NaN where no weight has been sampled yet.
        is_loss_out: Whether the loss stands far above all that the run has known.
        step: This step.
    """
    if math.isnan(ratio_bits) or history.count < 2:
        return None
    before = statistics.median(history.last(_PAST + 1)[:-1])
    jump = history.recent[-1] - before
    # Where the usual ratio is large already and the run lives, the optimizer divides it out.
    is_new = jump >= _JUMP_BITS and ratio_bits - jump < _USUAL_BITS
    if not is_loss_out or ratio_bits < 0 or not (is_new or state.waiting):
        state.waiting = False
        return None
    # One outlying batch looks the same, unless it has destroyed the weights: see the next step.
    if ratio_bits < _AT_ONCE_BITS and not state.waiting:
        state.waiting = True
        return None
    state.waiting = True
    return Sign(
        "update-spike",
        "gradient",
        "critical",
        step,
        f"the gradient norm jumped {jump:.1f} bits at step {step} with the loss out of bounds; "
        f"lr times norm is 2^{ratio_bits:.1f} of the weights' norm",
        strong=True,
        last_step=step,
        evidence={
            "jump_bits": jump,
            "update_ratio_bits": ratio_bits,
            "is_update_measured": False,
        },
    )


def look_at_rate(state: Rate, rate: float, step: int) -> Sign | None:
    """Return a sign if the learning rate has climbed several-fold beyond all that was known.

    Args:
        state: Changed.
        rate: Of this step; not positive or not finite where there is none.
        step: This step.
    """
    if not 0 < rate < math.inf:
        return None
    recent = state.recent
    if len(recent) == _WINDOW:
        state.highest = max(state.highest, recent[0])
        state.before += 1
    recent.append(rate)
    if state.before < _KNOWN or rate < _CLIMB * state.highest:
        state.is_told = state.is_told and rate > state.highest
        return None
    climb = list(recent)
    rises = sum(later > earlier for earlier, later in itertools.pairwise(climb))
    if state.is_told or rises < _RISES:
        return None
    state.is_told = True
    return Sign(
        "update-spike",
        "weight",
        "warning",
        step,
        f"the learning rate has climbed to {rate:.3g} at step {step}, {rate / state.highest:.1f} "
        "times all that the run has known, and updates with it",
        strong=True,
        last_step=step,
        evidence={"lr": rate, "highest_before": state.highest, "is_update_measured": False},
    )


def inputs_of(tensors: Sequence[TensorInfo]) -> float:
    """Return how many inputs a unit has: the mean over all elements of weight matrices."""
    matrices = [info for info in tensors if len(info.shape) > 1 and info.numel]
    elements = sum(info.numel for info in matrices)
    inputs = sum(info.numel * info.numel / info.shape[0] for info in matrices)
    return inputs / elements if elements else 0.0


def look_at_adam(ratio: float, rate: float, step: int, *, inputs: float) -> Sign | None:
    """Return a sign if updates of Adam, or its kin, are of the size of the weights themselves.

    Weights that begin near zero are rewritten in health, too: the update must be large also
    against weights of the usual scale, 1/sqrt(inputs), and it takes a second sign.

    Args:
        ratio: The usual norm of such an update over that of all weights.
        rate: Of this step: what an update moves each element by.
        step: This step.
        inputs: Of a unit, as `inputs_of` says.
    """
    usual = rate * math.sqrt(inputs)
    if not (_REWRITES <= ratio < math.inf and usual >= _REWRITES):
        return None
    return Sign(
        "update-spike",
        "weight",
        "info",
        step,
        f"an update of Adam moves the weights by about {ratio:.2g} times their norm at step "
        f"{step}: its learning rate is {rate:.3g}",
        strong=True,
        last_step=step,
        evidence={"lr": rate, "update_ratio": ratio, "is_update_measured": False},
    )
