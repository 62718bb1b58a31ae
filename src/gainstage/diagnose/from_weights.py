"""Evidence from the weights: how far they moved, and how far gradients can have moved them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gainstage.bits import theil_sen
from gainstage.detect.update.update_bounds import largest_updates
from gainstage.facts.observation import OptimizerMade
from gainstage.facts.record import RankRecord

_LARGE_UPDATE = 0.1
_LARGE_FIRST_UPDATE = 0.3
"""Of Adam: at its usual rate of 1e-3 the first update is a fiftieth of the weights."""
_LEAP_BITS = 4.0
_SAMPLES = 5
_ALIKE = 0.4


def weight_evidence(record: RankRecord) -> Iterator[tuple[str, str]]:
    """Yield rows of the evidence table, with words."""
    yield from _updates(record)
    yield from _beyond_updates(record)
    yield from _growth_alike(record)


def _updates(record: RankRecord) -> Iterator[tuple[str, str]]:
    ratios, steps, least = update_ratios(record)
    worst = float(ratios.max(initial=0.0))
    if worst >= least:
        at = int(steps[int(ratios.argmax())])
        yield (
            "update-large-against-weights",
            f"the update of step {at} is {worst:.2g} times the norm of all weights",
        )


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


def _beyond_updates(record: RankRecord) -> Iterator[tuple[str, str]]:
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
            yield _pushed(grown, f"up to step {int(weights.step[at])}", bound)
            return
    for symptom in record.symptoms:
        told = symptom.evidence
        if "moved_by_updates" in told:
            steps = f"from step {told['since']} to {symptom.step}"
            yield _pushed(told["grown"], steps, told["moved_by_updates"])


def _pushed(grown: float, steps: str, moved: float) -> tuple[str, str]:
    return (
        "weights-moved-beyond-updates",
        f"the weights' norm grew by {grown:.3g} {steps}, and all updates by the gradient together "
        f"move them by {moved:.3g} at most",
    )


def _growth_alike(record: RankRecord) -> Iterator[tuple[str, str]]:
    """What multiplies every weight by the same factor at each step is no gradient."""
    weights, alarm = record.weights, record.alarm_step
    matrices = [len(tensor.shape) > 1 for tensor in record.tensors]
    norms = weights.weight_norms[:, np.flatnonzero(matrices)].astype(np.float64)
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
        yield (
            "all-weights-grow-alike",
            f"all {len(slopes)} weight matrices grow at the same rate, {middle:.3g} bits a step",
        )


def steps_before_leap(norms: NDArray[np.float64]) -> int:
    """Return how many steps come before the norm leaps: what a leap brings is not its cause."""
    bits = np.log2(np.maximum(norms, 1e-300))
    return int(np.argmax(bits > np.median(bits[:3]) + _LEAP_BITS)) or len(bits)
