"""Evidence from the record of steps: norms, losses, rates and weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gainstage.records import RankRecord, StepBlock

_GREW_BITS = 5.0
_QUIET_BITS = 4.0
_HUGE_BITS = 14.0
_MODERATE_BITS = 8.0
_LARGE_UPDATE = 0.1
_OUTLIER_BITS = 5.0
_DIED_SHARE = 0.3


def step_evidence(record: RankRecord) -> Iterator[tuple[str, str]]:
    """Yield rows of the evidence table, with words."""
    block = record.block
    if not len(block):
        return
    record = replace(record, block=_of_one_optimizer(block, record.alarm_step))
    block = record.block
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = np.log2(block.grad_norm)
    failure = record.failure_step
    before = np.isfinite(bits) & (block.step < (failure if failure is not None else np.inf))
    yield from _first_step(bits)
    if before.sum() >= 3:
        yield from _growth(bits[before], failure)
    yield from _updates(record)
    yield from _losses(record, failure)
    yield from _died(record)
    yield from _rate(record)


def _of_one_optimizer(block: StepBlock, alarm: int | None) -> StepBlock:
    """Return the steps that changed the same parameters as the one that rang, or as most did.

    Where several optimizers take turns, their losses, rates and norms have nothing in common.
    """
    patterns, which, counts = np.unique(
        block.present, axis=0, return_inverse=True, return_counts=True
    )
    if len(patterns) == 1:
        return block
    which = which.reshape(-1)
    rang = np.flatnonzero(block.step == alarm)
    mine = which == (which[rang[0]] if len(rang) else int(np.argmax(counts)))
    return StepBlock(*[getattr(block, name)[mine] for name in StepBlock.__slots__])


def _first_step(bits: NDArray[np.float64]) -> Iterator[tuple[str, str]]:
    if not np.isfinite(bits[0]):
        return
    first = float(bits[0])
    if first >= _HUGE_BITS:
        yield "huge-at-first-step", f"the gradient norm is 2^{first:.0f} at step 0 already"
    elif first <= _MODERATE_BITS:
        yield "moderate-at-first-step", f"the gradient norm is 2^{first:.1f} at step 0"


def _growth(bits: NDArray[np.float64], failure: int | None) -> Iterator[tuple[str, str]]:
    half = bits[: max(3, len(bits) // 2)]
    level, last = float(np.median(half)), float(bits[-3:].max())
    grew = last - level
    if grew >= _GREW_BITS:
        yield "grew-before", f"the gradient norm grew {grew:.1f} bits over its level"
    elif failure is not None and grew <= _QUIET_BITS and len(bits) >= 8:
        yield "quiet-before", f"the gradient norm was within {max(grew, 0):.1f} bits of its level"
    if failure is None or len(bits) < 8:
        return
    steps_up = np.diff(bits[-4:])
    noise = float(np.median(np.abs(np.diff(bits)))) + 0.1
    if steps_up.max() >= max(_OUTLIER_BITS, 8 * noise) and (np.abs(np.diff(bits[:-4])) < 4).all():
        yield (
            "one-batch-stands-out",
            f"the gradient norm jumped {steps_up.max():.1f} bits from one batch to the next",
        )


def _updates(record: RankRecord) -> Iterator[tuple[str, str]]:
    """For plain gradient descent: Adam's update does not depend on the gradient's size."""
    made = record.first("optimizer")
    if made is None or made.evidence.get("class") != "SGD" or not len(record.weights):
        return
    block = record.block
    sampled = record.weights.weight_norms[0].astype(np.float64)
    weight = math.sqrt(float(np.nansum(sampled**2)))
    finite = np.isfinite(block.grad_norm) & np.isfinite(block.lr)
    if not finite.any() or weight == 0:
        return
    norm = block.grad_norm * np.where(
        np.isfinite(block.clip_coefficient), block.clip_coefficient, 1
    )
    usual = _steps_before_leap(block.grad_norm[finite][:16])
    ratios = (block.lr * norm)[finite][:usual] / weight
    worst = float(ratios.max())
    if worst >= _LARGE_UPDATE:
        at = int(block.step[finite][int(ratios.argmax())])
        yield (
            "update-large-against-weights",
            f"the update of step {at} is {worst:.2g} times the norm of all weights",
        )


def _steps_before_leap(norms: NDArray[np.float64]) -> int:
    """Return how many steps come before the norm leaps: what a leap brings is not its cause."""
    bits = np.log2(np.maximum(norms, 1e-300))
    return int(np.argmax(bits > np.median(bits[:3]) + _QUIET_BITS)) or len(bits)


def _losses(record: RankRecord, failure: int | None) -> Iterator[tuple[str, str]]:
    block = record.block
    usable = block.has_loss & np.isfinite(block.loss)
    losses, steps = block.loss[usable], block.step[usable]
    if len(losses) < 4:
        if len(losses) >= 2 and losses[1] > 4 * abs(losses[0]):
            yield "loss-rose-after-updates", f"the loss went {losses[0]:.3g} → {losses[1]:.3g}"
        return
    first = losses[: max(8, len(losses) // 8)]
    if len(record.times):
        # A recurrence carries a leap of the gradient into the loss of the same step.
        first = first[: max(2, _steps_before_leap(block.grad_norm[usable][:16]))]
    start = float(losses[0])
    peak = int(np.argmax(first))
    spread = abs(start) + 1e-12
    if peak > 0 and first[peak] > 4 * spread and start > 0:
        yield (
            "loss-rose-after-updates",
            f"the loss rose from {start:.3g} to {first[peak]:.3g} by step {int(steps[peak])}",
        )
    divergence = record.symptom("loss-divergence")
    if divergence is not None and divergence.evidence.get("form") == "unbounded":
        yield "loss-falls-without-bound", divergence.message
    elif losses.min() >= 0:
        yield "loss-stays-bounded-below", "the loss never fell below zero"


def _died(record: RankRecord) -> Iterator[tuple[str, str]]:
    norms = record.block.grad_norms
    if len(norms) < 12:
        return
    alive = (norms[:4] > 0).all(axis=0)
    dead = alive & (norms[-8:] == 0).all(axis=0)
    if alive.any() and dead.sum() >= max(1, _DIED_SHARE * alive.sum()):
        yield (
            "gradients-died",
            f"{int(dead.sum())} of {int(alive.sum())} gradients became exactly 0 and stayed so",
        )


def _rate(record: RankRecord) -> Iterator[tuple[str, str]]:
    lr = record.block.lr
    alarm = record.alarm_step
    if alarm is None or len(lr) < 4 or not np.isfinite(lr).all():
        return
    near = (record.block.step <= alarm) & (record.block.step >= alarm - 50)
    rates = lr[near]
    if len(rates) >= 4 and rates.min() > 0:
        jumps = rates[1:] / rates[:-1]
        if jumps.max() >= 3:
            yield "rate-jumped", f"the learning rate rose {jumps.max():.1f}-fold in one step"
