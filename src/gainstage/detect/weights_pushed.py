"""S2 `weight-growth` by something else than the optimizer: the weights grow beyond its updates.

By the triangle inequality the norm of all weights changes no more than by the sum of the updates'
norms, and of these the largest are known. Told is a norm that rises at several samples in a row by
more than twice that, and by a quarter in all: one such rise is a checkpoint that was loaded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gainstage.detect.sign import Sign
from gainstage.records import Observation, StepBlock, TensorInfo, WeightBlock

_RISES = 3
_GROWN = 0.25
_BEYOND = 2.0

Series = NDArray[np.float64]


@dataclass(slots=True)
class Updates:
    """Online state: what the updates since the latest sample of the weights can have moved."""

    optimizers: list[Observation] = field(default_factory=list[Observation])
    """How they were made, and how one stepped first."""
    momentum: float = 0.0
    """Largest norm that the momentum buffer can have."""
    bound: float = 0.0
    """Sum of the largest norms of the updates since the latest sample."""
    next_step: int | None = None
    norms: list[float] = field(default_factory=list[float])
    """Of all weights at the latest sample, and at those before from which they rose beyond."""
    tensors: int = 0
    since: int = 0
    """Step of the first of these samples."""
    moved: float = 0.0
    """What updates can have moved since then."""
    is_told: bool = False

    def learn(self, observations: Iterable[Observation]) -> None:
        """Note which optimizers there are; again is no matter."""
        for seen in observations:
            if seen.kind in ("optimizer", "optimizer-step") and seen not in self.optimizers:
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
    beyond = (
        bool(state.norms)
        and len(weights.weight_norms[0]) == state.tensors
        and norm - state.norms[-1] > _BEYOND * bound
    )
    state.tensors = len(weights.weight_norms[0])
    if not beyond:
        state.norms, state.since, state.moved = [norm], step, 0.0
        return None
    state.norms.append(norm)
    state.moved += bound
    grown = norm - state.norms[0]
    if len(state.norms) <= _RISES or grown < _GROWN * state.norms[0]:
        return None
    state.is_told = True
    return Sign(
        "weight-growth",
        "weight",
        "warning",
        step,
        f"the norm of all weights grew by {grown / state.norms[0]:.0%} from step {state.since} to "
        f"{step}, and all updates together move it by {state.moved / state.norms[0]:.2%} at most",
        strong=True,
        last_step=step,
        evidence={
            "bits_gained": math.log2(norm / state.norms[0]),
            "grown": grown,
            "moved_by_updates": state.moved,
            "since": state.since,
        },
    )


def largest_updates(
    optimizers: Sequence[Observation],
    lr: Series,
    norms: Series,
    elements: int,
    momentum: float = 0.0,
) -> tuple[Series, float] | None:
    """Return the largest norm that each step's update can have; None where it is not known.

    Of gradient descent that is the rate times the norms so far, weighted by momentum. Of Adam and
    its kin an element's update is at most lr (1 - b1) / sqrt(1 - b2); see Kingma and Ba (2015),
    section 2.1. Of several optimizers, and of groups with rates of their own, it is not known.

    Args:
        optimizers: Observations of how they were made, and of how one stepped first.
        lr: Rate of each step.
        norms: Of the gradients.
        elements: Of all weights.
        momentum: Largest norm of the momentum buffer before them.

    Returns:
        A norm a step, and the largest norm of the momentum buffer after them.
    """
    made = [seen for seen in optimizers if seen.kind == "optimizer"]
    if len(made) != 1 or any("rates" in seen.evidence for seen in optimizers):
        return None
    settings: dict[str, Any] = made[0].evidence.get("settings") or {}
    match made[0].evidence.get("class"):
        case "SGD" if 0 <= (share := settings.get("momentum") or 0.0) < 1:
            buffers = np.zeros(len(norms))
            for at, norm in enumerate(norms.tolist()):
                buffers[at] = momentum = share * momentum + norm
            with np.errstate(invalid="ignore"):  # a rate of 0 moves nothing, by an inf neither
                return lr * buffers, momentum
        case "Adam" | "AdamW" | "NAdam" if len(betas := settings.get("betas") or ()) == 2:
            most = max(1.0, (1 - betas[0]) / math.sqrt(max(1 - betas[1], 1e-12)))
            return lr * most * math.sqrt(elements), momentum
        case _:
            return None
