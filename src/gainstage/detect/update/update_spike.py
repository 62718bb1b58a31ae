"""`update-spike`: a step about to move the weights by as much as they are.

The update itself is not in the record. Measured is lr·c·‖g‖/‖w‖ in bits, with c the clip
coefficient: the update ratio of plain gradient descent. Adam divides the gradient's size out, so
the ratio alone is no sign; reported is a jump of the gradient that brings it above 0 bits while the
loss is out of all bounds. Every optimizer's update grows with the learning rate: reported too is
one that climbs, step after step, far beyond all that the run has known, and of Adam one that
rewrites the weights within two steps, whatever the gradient is.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from gainstage.detect.kind.inputs import StepInput
from gainstage.detect.kind.symptom_kind import Detector, DocRow, Signal, Signals, SymptomKind

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


@dataclass(frozen=True, slots=True, kw_only=True)
class NormJumpEvidence:
    """A gradient that has jumped so far that its update is as large as the weights."""

    form: Literal["jump"] = "jump"
    jump_bits: float
    """Bits of the gradient norm over the median of the steps before."""
    update_ratio_bits: float
    """log2 of lr times norm over the weights' norm."""
    is_update_measured: bool = False
    """Whether the record holds the norm of the update itself."""
    at_step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RateClimbEvidence:
    """A learning rate that has climbed several-fold."""

    form: Literal["rate"] = "rate"
    lr: float
    highest_before: float
    """The highest rate before the climb."""
    is_update_measured: bool = False
    """Whether the record holds the norm of the update itself."""
    at_step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamRewriteEvidence:
    """Updates of Adam, or its kin, of the size of the weights."""

    form: Literal["adam"] = "adam"
    lr: float
    update_ratio: float
    """Usual norm of such an update over the weights' norm."""
    is_update_measured: bool = False
    """Whether the record holds the norm of the update itself."""
    at_step: int


Evidence = NormJumpEvidence | RateClimbEvidence | AdamRewriteEvidence


def message(evidence: Evidence) -> str:
    """Return the sentence for people."""
    step = evidence.at_step
    match evidence:
        case NormJumpEvidence():
            return (
                f"the gradient norm jumped {evidence.jump_bits:.1f} bits at step {step} with the "
                f"loss out of bounds; lr times norm is 2^{evidence.update_ratio_bits:.1f} of the "
                "weights' norm"
            )
        case RateClimbEvidence(lr=rate, highest_before=highest):
            return (
                f"the learning rate has climbed to {rate:.3g} at step {step}, {rate / highest:.1f} "
                "times all that the run has known, and updates with it"
            )
        case AdamRewriteEvidence():
            return (
                f"an update of Adam moves the weights by about {evidence.update_ratio:.2g} times "
                f"their norm at step {step}: its learning rate is {evidence.lr:.3g}"
            )


@dataclass(frozen=True, slots=True)
class Jump:
    """State: whether the step before has jumped, and its consequence is awaited."""

    is_waiting: bool = False


def update(state: Jump, given: StepInput) -> tuple[Jump, Signals]:
    """Return a signal if the norm has jumped, the loss is out of bounds and the update would be."""
    history, ratio = given.series.norm, given.update_ratio_bits
    if math.isnan(ratio) or history.count < 2:
        return state, ()
    before = statistics.median(history.last(_PAST + 1)[:-1])
    jump = history.recent[-1] - before
    # Where the usual ratio is large already and the run lives, the optimizer divides it out.
    is_new = jump >= _JUMP_BITS and ratio - jump < _USUAL_BITS
    if not given.series.loss_range.is_out or ratio < 0 or not (is_new or state.is_waiting):
        return Jump(), ()
    # One outlying batch looks the same, unless it has destroyed the weights: see the next step.
    if ratio < _AT_ONCE_BITS and not state.is_waiting:
        return Jump(is_waiting=True), ()
    evidence = NormJumpEvidence(jump_bits=jump, update_ratio_bits=ratio, at_step=given.step)
    signal = Signal(
        evidence=evidence,
        severity="critical",
        step=given.step,
        last_step=given.step,
        is_strong=True,
    )
    return Jump(is_waiting=True), (signal,)


@dataclass(slots=True)
class Rate:
    """State: the learning rates of the last steps, and the highest before them."""

    recent: deque[float] = field(default_factory=lambda: deque[float](maxlen=_WINDOW))
    highest: float = 0.0
    before: int = 0
    is_reported: bool = False


def update_rate(state: Rate, given: StepInput) -> tuple[Rate, Signals]:
    """Return a signal if the learning rate has climbed several-fold beyond all that was known."""
    rate, step = given.lr, given.step
    if not 0 < rate < math.inf:
        return state, ()
    recent = state.recent
    if len(recent) == _WINDOW:
        state.highest = max(state.highest, recent[0])
        state.before += 1
    recent.append(rate)
    if state.before < _KNOWN or rate < _CLIMB * state.highest:
        state.is_reported = state.is_reported and rate > state.highest
        return state, ()
    climb = list(recent)
    rises = sum(later > earlier for earlier, later in itertools.pairwise(climb))
    if state.is_reported or rises < _RISES:
        return state, ()
    state.is_reported = True
    evidence = RateClimbEvidence(lr=rate, highest_before=state.highest, at_step=step)
    signal = Signal(
        evidence=evidence, severity="warning", step=step, last_step=step, is_strong=True
    )
    return state, (signal,)


def update_adam(state: None, given: StepInput) -> tuple[None, Signals]:
    """Return a signal if updates of Adam, or its kin, are of the size of the weights themselves.

    Weights that begin near zero are rewritten in health, too: the update must be large also
    against weights of the usual scale, 1/sqrt(inputs), and it takes a second sign.
    """
    ratio = given.adam_update_ratio
    usual = given.lr * math.sqrt(given.inputs)
    if not (_REWRITES <= ratio < math.inf and usual >= _REWRITES):
        return state, ()
    evidence = AdamRewriteEvidence(lr=given.lr, update_ratio=ratio, at_step=given.step)
    signal = Signal(
        evidence=evidence,
        severity="info",
        step=given.step,
        last_step=given.step,
        is_strong=True,
    )
    return state, (signal,)


KIND = SymptomKind(
    id="update-spike",
    evidence=(NormJumpEvidence, RateClimbEvidence, AdamRewriteEvidence),
    detectors=(
        Detector(family="weight", steps=update_adam),
        Detector(family="weight", start=Rate, steps=update_rate),
        Detector(family="gradient", start=Jump, norms=update),
    ),
    message=message,
    docs=(
        DocRow(
            "a jump of 6 bits that makes lr·c·‖g‖ ≥ ‖w‖ while the loss is out of bounds; at once "
            "at 3 bits more, else if the next step is no better. A learning rate that climbs, in "
            "several steps, to 6 times all that the run has known. Updates of Adam of half the "
            "weights' norm and more, at a rate that is also large for weights of the usual scale",
            "norm, lr, coefficient, sampled weights, loss",
            "bits",
            "critical; warning for the rate; note, but strong, for Adam",
            "one outlying batch; a ratio that is usually above 1/8, for then the optimizer divides "
            "it out",
        ),
    ),
)
