"""Evidence from the weights: how far they moved, and how far gradients can have moved them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gainstage.bits import theil_sen
from gainstage.detect.update.growth_beyond_updates import GrowthBeyondUpdatesEvidence
from gainstage.detect.update.update_bounds import largest_updates
from gainstage.diagnose.evidence.piece import Piece
from gainstage.facts.observation import OptimizerMade
from gainstage.facts.record import RankRecord

_LARGE_UPDATE = 0.1
_LARGE_FIRST_UPDATE = 0.3
"""Of Adam: at its usual rate of 1e-3 the first update is a fiftieth of the weights."""
_LEAP_BITS = 4.0
_SAMPLES = 5
_ALIKE = 0.4


@dataclass(frozen=True, slots=True)
class UpdateLarge:
    """An update is large against the weights."""

    id: str = field(default="update-large-against-weights", init=False)
    ratio: float
    """Norm of the update over the norm of all weights."""
    step: int

    @property
    def text(self) -> str:
        """The sentence for people."""
        return f"the update of step {self.step} is {self.ratio:.2g} times the norm of all weights"


@dataclass(frozen=True, slots=True)
class MovedBeyondUpdates:
    """The norm of all weights grew by more than all updates can have moved them."""

    id: str = field(default="weights-moved-beyond-updates", init=False)
    grown: float
    moved_by_updates: float
    """The sum of the norms of all updates."""
    until_step: int
    since_step: int | None = None
    """None for the first step."""

    @property
    def text(self) -> str:
        """The sentence for people."""
        since, until = self.since_step, self.until_step
        steps = f"up to step {until}" if since is None else f"from step {since} to {until}"
        return (
            f"the weights' norm grew by {self.grown:.3g} {steps}, and all updates by the gradient "
            f"together move them by {self.moved_by_updates:.3g} at most"
        )


@dataclass(frozen=True, slots=True)
class WeightsGrowAlike:
    """Every weight matrix grows by the same factor at each step."""

    id: str = field(default="all-weights-grow-alike", init=False)
    matrices: int
    bits_a_step: float

    @property
    def text(self) -> str:
        """The sentence for people."""
        return (
            f"all {self.matrices} weight matrices grow at the same rate, {self.bits_a_step:.3g} "
            "bits a step"
        )


def weight_evidence(record: RankRecord) -> Iterator[Piece]:
    """Yield evidence from sampled weights."""
    yield from _updates(record)
    yield from _beyond_updates(record)
    yield from _growth_alike(record)


def _updates(record: RankRecord) -> Iterator[Piece]:
    ratios, steps, least = update_ratios(record)
    worst = float(ratios.max(initial=0.0))
    if worst >= least:
        at = int(steps[int(ratios.argmax())])
        yield UpdateLarge(worst, at)


def update_ratios(record: RankRecord) -> tuple[NDArray[np.float64], NDArray[np.int64], float]:
    """Return norms of updates over the norm of all weights, their steps, and from what on is large.

    Of plain gradient descent the first updates are known, before the norm leaps; of Adam and its
    kin the first one, which moves each element by the learning rate, whatever its gradient (see
    `largest_updates`). Empty for other optimizers, and where the weights have not been sampled.
    """
    block, made = record.block, record.first(OptimizerMade)
    none = np.zeros(0), np.zeros(0, np.int64), math.inf
    if made is None or not len(record.weights):
        return none
    sampled = record.weights.weight_norms[0].astype(np.float64)
    weight = math.sqrt(float(np.nansum(sampled**2)))
    finite = np.isfinite(block.grad_norm) & np.isfinite(block.lr)
    if not finite.any() or weight == 0:
        return none
    match made.evidence.class_name:
        case "SGD":
            clipped = np.isfinite(block.clip_coefficient)
            norm = block.grad_norm * np.where(clipped, block.clip_coefficient, 1)
            usual = steps_before_leap(block.grad_norm[finite][:16])
            ratios = (block.lr[finite] * norm[finite])[:usual] / weight
            return ratios, block.step[finite][:usual], _LARGE_UPDATE
        case "Adam" | "AdamW" | "NAdam" | "RAdam" if finite[0]:
            ratio = block.lr[0] * math.sqrt(_elements(record)) / weight
            return np.array([ratio]), block.step[:1], _LARGE_FIRST_UPDATE
        case _:
            return none


def _elements(record: RankRecord) -> int:
    return sum(math.prod(tensor.shape) for tensor in record.tensors)


def _beyond_updates(record: RankRecord) -> Iterator[Piece]:
    """By the triangle inequality weights change no more than by the sum of all updates' norms."""
    weights, block = record.weights, record.block
    if len(weights) < 2 or not block.present.all() or block.skipped.any():
        return
    if int(block.step[-1] - block.step[0]) != len(block) - 1:
        return  # steps are missing, and so are their updates
    norms = np.sqrt((weights.weight_norms.astype(np.float64) ** 2).sum(axis=1))
    finite = np.isfinite(norms)
    largest = largest_updates(record.observations, block.lr, block.grad_norm, _elements(record))
    if finite.sum() < 2 or not finite[0] or largest is None:
        return
    moved, _ = largest
    for at in np.flatnonzero(finite).tolist():
        bound = float(np.nansum(moved[block.step < weights.step[at]]))
        grown = float(norms[at] - norms[0])
        if grown > 2 * bound + 0.25 * norms[0]:
            yield MovedBeyondUpdates(grown, bound, int(weights.step[at]))
            return
    for symptom in record.symptoms:
        seen = symptom.evidence
        if isinstance(seen, GrowthBeyondUpdatesEvidence):
            moved = seen.moved_by_updates
            yield MovedBeyondUpdates(seen.grown, moved, symptom.step, seen.since)


def _growth_alike(record: RankRecord) -> Iterator[Piece]:
    """What multiplies every weight by the same factor at each step is no gradient."""
    weights, alarm = record.weights, record.alarm_step
    matrices = [len(tensor.shape) > 1 for tensor in record.tensors]
    was_read = weights.present.any(axis=0)
    norms = weights.weight_norms[:, np.array(matrices) & was_read].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = np.log2(norms)
    usable = np.isfinite(bits).all(axis=1) & (
        weights.step < (alarm if alarm is not None else np.inf)
    )
    bits, steps = bits[usable], weights.step[usable]
    if len(steps) < _SAMPLES or bits.shape[1] < 2:
        return
    half = len(steps) // 2
    slopes, early, late = (
        np.array([theil_sen(steps[rows], column[rows]) for column in bits.T])
        for rows in (slice(None), slice(half + 1), slice(half, None))
    )
    middle = float(np.median(slopes))
    gained = middle * float(steps[-1] - steps[0])
    # What gradients or momentum once set going slows down.
    spread = max(float(np.abs(each - middle).max()) for each in (slopes, early, late))
    if gained >= 1.0 and spread <= _ALIKE * middle:
        yield WeightsGrowAlike(len(slopes), middle)


def steps_before_leap(norms: NDArray[np.float64]) -> int:
    """Return how many steps come before the norm leaps: what a leap brings is not its cause."""
    bits = np.log2(np.maximum(norms, 1e-300))
    return int(np.argmax(bits > np.median(bits[:3]) + _LEAP_BITS)) or len(bits)
