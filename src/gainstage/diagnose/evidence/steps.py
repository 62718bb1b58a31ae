"""Evidence from the record of steps: norms, losses, rates and weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gainstage.detect.loss.loss_divergence import LossUnboundedEvidence
from gainstage.detect.symptom_json import message_of
from gainstage.diagnose.evidence.leap import leap_evidence
from gainstage.diagnose.evidence.piece import Piece, Plain
from gainstage.diagnose.evidence.weights import steps_before_leap, weight_evidence
from gainstage.facts.blocks import StepBlock
from gainstage.facts.record import RankRecord
from gainstage.facts.symptom import Symptom

_GREW_BITS = 5.0
_QUIET_BITS = 4.0
_HUGE_BITS = 14.0
_MODERATE_BITS = 8.0
_LEAP_BITS = 7.0
_STEP_BITS = 5.0
_RATE_STEPS = 5
_WINDOW = 8
_DIED_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class FirstNorm:
    """The gradient norm at the first step is huge, or moderate."""

    id: str
    norm_bits: float

    @property
    def text(self) -> str:
        """The sentence for people."""
        if self.id == "huge-at-first-step":
            return f"the gradient norm is 2^{self.norm_bits:.0f} at step 0 already"
        return f"the gradient norm is 2^{self.norm_bits:.1f} at step 0"


@dataclass(frozen=True, slots=True)
class LeaptFromCalm:
    """The gradient norm leapt within one step, with nothing before it."""

    id: str = field(default="leapt-from-calm", init=False)
    leapt_bits: float
    step: int

    @property
    def text(self) -> str:
        """The sentence for people."""
        return (
            f"the gradient norm leapt {self.leapt_bits:.1f} bits at step {self.step}, from one "
            "batch to the next, out of the usual and at a steady learning rate"
        )


@dataclass(frozen=True, slots=True)
class GrewStepByStep:
    """The gradient norm grew over several steps."""

    id: str = field(default="grew-step-by-step", init=False)
    first_bits: float
    """Of the first step of the growth."""

    @property
    def text(self) -> str:
        """The sentence for people."""
        return f"the growth began with {self.first_bits:.1f} bits, and went on"


@dataclass(frozen=True, slots=True)
class NormBefore:
    """What the gradient norm did before the failure: it grew, or was quiet."""

    id: str
    grew_bits: float

    @property
    def text(self) -> str:
        """The sentence for people."""
        if self.id == "grew-before":
            return f"the gradient norm grew {self.grew_bits:.1f} bits over its level"
        return f"the gradient norm was within {max(self.grew_bits, 0):.1f} bits of its level"


@dataclass(frozen=True, slots=True)
class LossRose:
    """The loss rose right after the first updates."""

    id: str = field(default="loss-rose-after-updates", init=False)
    first: float
    highest: float
    step: int | None = None
    """None where there were too few steps to tell."""

    @property
    def text(self) -> str:
        """The sentence for people."""
        if self.step is None:
            return f"the loss went {self.first:.3g} → {self.highest:.3g}"
        return f"the loss rose from {self.first:.3g} to {self.highest:.3g} by step {self.step}"


@dataclass(frozen=True, slots=True)
class LossUnbounded:
    """The symptom that a loss falls ever faster."""

    id: str = field(default="loss-falls-without-bound", init=False)
    symptom: Symptom

    @property
    def text(self) -> str:
        """The sentence for people."""
        return message_of(self.symptom)


@dataclass(frozen=True, slots=True)
class LossFalling:
    """The loss ended far below zero, at its lowest and falling."""

    id: str = field(default="loss-falls-without-bound", init=False)
    last: float

    @property
    def text(self) -> str:
        """The sentence for people."""
        return f"the loss fell to {self.last:.3g}, and was falling"


@dataclass(frozen=True, slots=True)
class LossBelowZero:
    """A loss that began above zero stayed below it."""

    id: str = field(default="loss-fell-below-zero", init=False)
    first: float
    lowest: float

    @property
    def text(self) -> str:
        """The sentence for people."""
        return f"the loss fell from {self.first:.3g} to {self.lowest:.3g}"


@dataclass(frozen=True, slots=True)
class GradientsDied:
    """Gradients became exactly 0 and stayed so."""

    id: str = field(default="gradients-died", init=False)
    dead: int
    alive_at_first: int

    @property
    def text(self) -> str:
        """The sentence for people."""
        return f"{self.dead} of {self.alive_at_first} gradients became exactly 0 and stayed so"


@dataclass(frozen=True, slots=True)
class RateJumped:
    """The learning rate rose."""

    id: str = field(default="rate-jumped", init=False)
    factor: float
    steps: int = 1

    @property
    def text(self) -> str:
        """The sentence for people."""
        within = "in one step" if self.steps == 1 else f"within {self.steps} steps"
        return f"the learning rate rose {self.factor:.1f}-fold {within}"


_BOUNDED_BELOW = Plain("loss-stays-bounded-below", "the loss never fell below zero")


def step_evidence(record: RankRecord) -> Iterator[Piece]:
    """Yield evidence from the steps."""
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
        yield from _growth(record, bits, before)
    yield from weight_evidence(record)
    yield from _losses(record, failure)
    yield from _died(record)
    yield from _rate(record)


def _of_one_optimizer(block: StepBlock, alarm: int | None) -> StepBlock:
    """Return the steps of the optimizer that raised the alarm, else of the most frequent one.

    Where several optimizers alternate, their losses, rates and norms cannot be compared.
    """
    packed = np.packbits(block.present, axis=1)  # rows of bytes sort 100 times faster than of bools
    rows = np.ascontiguousarray(packed).view(f"V{packed.shape[1]}").reshape(-1)
    patterns, which, counts = np.unique(rows, return_inverse=True, return_counts=True)
    if len(patterns) == 1:
        return block
    rang = np.flatnonzero(block.step == alarm)
    mine = which == (which[rang[0]] if len(rang) else int(np.argmax(counts)))
    return StepBlock(*[getattr(block, name)[mine] for name in StepBlock.__slots__])


def _first_step(bits: NDArray[np.float64]) -> Iterator[Piece]:
    if not np.isfinite(bits[0]):
        return
    first = float(bits[0])
    if first >= _HUGE_BITS:
        yield FirstNorm("huge-at-first-step", first)
    elif first <= _MODERATE_BITS:
        yield FirstNorm("moderate-at-first-step", first)


def _growth(
    record: RankRecord, bits: NDArray[np.float64], before: NDArray[np.bool_]
) -> Iterator[Piece]:
    bits, block, failure = bits[before], record.block, record.failure_step
    leap = _leap(bits)
    if leap is not None:
        at, jump = leap
        step = int(block.step[before][at])
        rates = block.lr[before][max(0, at - _RATE_STEPS) : at + 1]
        rates = rates[np.isfinite(rates)]  # without an optimizer none is known
        steady = not len(rates) or rates.max() <= 1.5 * rates.min()
        signs = [each for each in record.symptoms if each.severity != "info"]
        calm = not any(each.step < step - 1 for each in signs)
        calm = calm and step - int(block.step[before][at - 1]) <= 2
        # At a recurrence's cliff, too, the gradient leaps, of good data.
        if jump >= _LEAP_BITS and steady and calm and not len(record.times):
            yield LeaptFromCalm(jump, step)
            yield from leap_evidence(record, step)
            return
        if jump < _STEP_BITS and len(bits) - at >= 3:
            yield GrewStepByStep(jump)
    half = bits[: max(3, len(bits) // 2)]
    level, last = float(np.median(half)), float(bits[-3:].max())
    grew = last - level
    if grew >= _GREW_BITS:
        yield NormBefore("grew-before", grew)
    elif failure is not None and grew <= _QUIET_BITS and len(bits) >= 8:
        yield NormBefore("quiet-before", grew)


def _leap(bits: NDArray[np.float64]) -> tuple[int, float] | None:
    """Return where the norm left its level for the last time, and the bits of that step.

    None where it never did, or where there are too few steps to know its level.
    """
    if len(bits) < 8:
        return None
    calm = bits[: max(4, len(bits) // 2)]
    noise = float(np.median(np.abs(np.diff(calm)))) + 0.1
    beyond = bits > np.median(calm) + max(_QUIET_BITS, 8 * noise)
    if not beyond.any():
        return None
    within = np.flatnonzero(~beyond[: int(np.argmax(np.where(beyond, bits, -np.inf)))])
    at = int(within[-1]) + 1 if len(within) else 0
    return (at, float(bits[at] - bits[at - 1])) if at else None


def _losses(record: RankRecord, failure: int | None) -> Iterator[Piece]:
    block = record.block
    usable = block.has_loss & np.isfinite(block.loss)
    losses, steps = block.loss[usable], block.step[usable]
    if len(losses) < 4:
        known = block.loss[block.has_loss & ~np.isnan(block.loss)]
        if len(known) >= 2 and known[1] > 4 * abs(known[0]):
            yield LossRose(float(known[0]), float(known[1]))
        return
    first = losses[: max(8, len(losses) // 8)]
    if len(record.times):
        # A recurrence carries a leap of the gradient into the loss of the same step.
        first = first[: max(2, steps_before_leap(block.grad_norm[usable][:16]))]
    start = float(losses[0])
    peak = int(np.argmax(first))
    spread = abs(start) + 1e-12
    if peak > 0 and first[peak] > 4 * spread and start > 0:
        yield LossRose(start, float(first[peak]), int(steps[peak]))
    divergence = record.symptom("loss-divergence")
    if divergence is not None and isinstance(divergence.evidence, LossUnboundedEvidence):
        yield LossUnbounded(divergence)
    elif _fell_below_all(losses):
        yield LossFalling(float(losses[-1]))
    elif fell_below_zero(losses):
        yield LossBelowZero(float(losses[0]), float(losses.min()))
    elif losses.min() >= 0:
        yield _BOUNDED_BELOW


def fell_below_zero(losses: NDArray[np.float64]) -> bool:
    """Return whether a loss that began above zero stayed below it for some steps."""
    if len(losses) < _WINDOW or losses[0] <= 0:
        return False
    windows = np.lib.stride_tricks.sliding_window_view(losses, _WINDOW)
    return bool((np.median(windows, axis=1) < 0).any())


def _fell_below_all(losses: NDArray[np.float64]) -> bool:
    """Return whether the loss ends far below zero, at its lowest and falling."""
    if len(losses) < 6:
        return False
    usual = float(np.abs(losses[: max(3, len(losses) // 4)]).max())
    falling = bool((np.diff(losses[-4:]) < 0).all())
    return falling and bool(losses[-1] == losses.min()) and -losses[-1] > 16 * max(usual, 1e-12)


def _died(record: RankRecord) -> Iterator[Piece]:
    norms = record.block.grad_norms
    if len(norms) < 12:
        return
    alive = (norms[:4] > 0).all(axis=0)
    dead = alive & (norms[-8:] == 0).all(axis=0)
    if alive.any() and dead.sum() >= max(1, _DIED_SHARE * alive.sum()):
        yield GradientsDied(int(dead.sum()), int(alive.sum()))


def _rate(record: RankRecord) -> Iterator[Piece]:
    lr = record.block.lr
    alarm = record.alarm_step
    if alarm is None or len(lr) < 4 or not np.isfinite(lr).all():
        return
    near = (record.block.step <= alarm) & (record.block.step >= alarm - 50)
    rates = lr[near]
    if len(rates) >= 4 and rates.min() > 0:
        jumps = rates[1:] / rates[:-1]
        climb = float(rates[-1] / np.median(rates[: len(rates) // 2]))
        if jumps.max() >= 3:
            yield RateJumped(float(jumps.max()))
        elif climb >= 4:
            yield RateJumped(climb, len(rates))
