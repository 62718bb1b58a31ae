"""S2 `weight-growth` by something else than the optimizer: the weights grow beyond its updates.

By the triangle inequality the norm of all weights changes no more than by the sum of the updates'
norms, and of these the largest are known. Told is a norm that rises at several samples in a row by
more than twice that, and by a quarter in all: one such rise is a checkpoint that was loaded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from gainstage.detect.series.sign import Sign
from gainstage.detect.update.update_bounds import largest_updates
from gainstage.facts.blocks import StepBlock, WeightBlock
from gainstage.facts.observation import Observation, Observed, OptimizerMade, OptimizerStepped
from gainstage.facts.tensor import TensorInfo

_RISES = 3
_GROWN = 0.25
_BEYOND = 2.0


@dataclass(slots=True)
class Updates:
    """Online state: what the updates since the latest sample of the weights can have moved."""

    optimizers: list[Observation[Observed]] = field(default_factory=list[Observation[Observed]])
    """How they were made, and how one stepped first."""
    momentum: float = 0.0
    """Largest norm that the momentum buffer can have."""
    bound: float = 0.0
    """Sum of the largest norms of the updates since the latest sample."""
    next_step: int | None = None
    tensors: int = 0
    latest: float = math.nan
    """Norm of all weights at the latest sample."""
    rises: int = 0
    """Samples in a row, the latest the last, to which it rose beyond its updates."""
    first: float = math.nan
    """Norm before the first of these rises."""
    since: int = 0
    """Step of that sample."""
    moved: float = 0.0
    """What updates can have moved since then."""
    is_told: bool = False

    def learn(self, observations: Iterable[Observation[Observed]]) -> None:
        """Note which optimizers there are; again is no matter."""
        for seen in observations:
            is_optimizer = isinstance(seen.evidence, (OptimizerMade, OptimizerStepped))
            if is_optimizer and seen not in self.optimizers:
                self.optimizers.append(seen)


def take(state: Updates, block: StepBlock, rows: slice, tensors: Sequence[TensorInfo]) -> None:
    """Take in steps, one at least, that come between two samples of the weights."""
    if state.is_told:
        return
    steps, lr, norms = block.step[rows], block.lr[rows], block.grad_norm[rows]
    in_order = int(steps[-1] - steps[0]) == len(steps) - 1
    known = in_order and state.next_step in (None, int(steps[0])) and block.present[rows].all()
    elements = sum(info.numel for info in tensors)
    largest = (
        largest_updates(state.optimizers, lr, norms, elements, state.momentum) if known else None
    )
    state.next_step = int(steps[-1]) + 1
    if largest is None:
        state.bound = math.inf
        return
    bounds, state.momentum = largest
    state.bound += float(bounds.sum())


def look(state: Updates, weights: WeightBlock) -> Sign | None:
    """Take in one sample of the weights; return a sign if they have risen beyond their updates."""
    if state.is_told:
        return None
    whole = bool(weights.present[0].all())
    norm = float(np.linalg.norm(weights.weight_norms[0].astype(np.float64))) if whole else math.nan
    step, bound = int(weights.step[0]), state.bound
    state.bound = 0.0
    beyond = len(weights.weight_norms[0]) == state.tensors and norm - state.latest > _BEYOND * bound
    state.tensors, state.latest = len(weights.weight_norms[0]), norm
    if not beyond:
        state.rises, state.first, state.since, state.moved = 0, norm, step, 0.0
        return None
    state.rises += 1
    state.moved += bound
    grown = norm - state.first
    if state.rises < _RISES or grown < _GROWN * state.first:
        return None
    state.is_told = True
    return Sign(
        "weight-growth",
        "weight",
        "warning",
        step,
        f"the norm of all weights grew by {grown / state.first:.0%} from step {state.since} to "
        f"{step}, and all updates together move it by {state.moved / state.first:.2%} at most",
        strong=True,
        last_step=step,
        evidence={
            "bits_gained": math.log2(norm / state.first),
            "grown": grown,
            "moved_by_updates": state.moved,
            "since": state.since,
        },
    )
