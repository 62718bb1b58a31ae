"""S2 `weight-growth` by something else than the optimizer: the weights grow beyond its updates.

By the triangle inequality the norm of all weights changes no more than by the sum of the updates'
norms, and of these the largest are known. Reported is a norm that rises at several samples in a row
by more than twice that, and by a quarter in all: one such rise is a checkpoint that was loaded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gainstage.detect.kind.inputs import Stretch, WeightSample
from gainstage.detect.kind.symptom_kind import Signal, Signals
from gainstage.detect.update.update_bounds import largest_updates

_RISES = 3
_GROWN = 0.25
_BEYOND = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowthBeyondUpdatesEvidence:
    """Weights that have grown by more than all updates can have moved them."""

    form: Literal["beyond-updates"] = "beyond-updates"
    bits_gained: float
    grown: float
    """By how much the norm of all weights has grown."""
    moved_by_updates: float
    """By how much all updates together can have moved it at most."""
    norm_before: float
    """The norm of all weights before it grew."""
    since: int
    """Step at which that was sampled."""
    at_step: int


@dataclass(slots=True)
class Updates:
    """State: what the updates since the latest sample of the weights can have moved."""

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
    is_reported: bool = False


def update_by_steps(state: Updates, stretch: Stretch) -> tuple[Updates, Signals]:
    """Take in the steps that come between two samples of the weights."""
    if state.is_reported:
        return state, ()
    block = stretch.block
    first, last = int(block.step[0]), int(block.step[-1])
    in_order = last - first == len(block) - 1 and state.next_step in (None, first)
    largest = None
    if in_order and block.present.all():
        elements = sum(info.numel for info in stretch.tensors)
        largest = largest_updates(
            stretch.optimizers, block.lr, block.grad_norm, elements, state.momentum
        )
    state.next_step = last + 1
    if largest is None:
        state.bound = math.inf
        return state, ()
    bounds, state.momentum = largest
    state.bound += float(bounds.sum())
    return state, ()


def update(state: Updates, given: WeightSample) -> tuple[Updates, Signals]:
    """Take in one sample of the weights; return a signal if they have risen beyond their updates.

    Weights that are all 0 have no share to grow by.
    """
    if state.is_reported:
        return state, ()
    norms = given.sample.weight_norms[0].astype(np.float64)
    norm = float(np.linalg.norm(norms)) if given.sample.present[0].all() else math.nan
    step, bound, before = int(given.sample.step[0]), state.bound, state.latest
    is_beyond = len(norms) == state.tensors and norm - before > _BEYOND * bound and before > 0
    state.bound, state.tensors, state.latest = 0.0, len(norms), norm
    if not is_beyond:
        state.rises, state.first, state.since, state.moved = 0, norm, step, 0.0
        return state, ()
    state.rises += 1
    state.moved += bound
    grown = norm - state.first
    if state.rises < _RISES or grown < _GROWN * state.first or not math.isfinite(norm):
        return state, ()
    state.is_reported = True
    evidence = GrowthBeyondUpdatesEvidence(
        bits_gained=math.log2(norm / state.first),
        grown=grown,
        moved_by_updates=state.moved,
        norm_before=state.first,
        since=state.since,
        at_step=step,
    )
    signal = Signal(
        evidence=evidence, severity="warning", step=step, last_step=step, is_strong=True
    )
    return state, (signal,)
