"""`loss-divergence`: the loss has left what the run has known, upward or downward without end.

Scale-free and for losses of either sign: heights are measured in units of what the loss has ranged
over so far, not in units of the loss. Four ways to leave: far above and rising; above for good;
worse than untrained after it had been good; below zero and falling ever faster.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Literal

from gainstage.bits import theil_sen
from gainstage.detect.kind.inputs import StepInput
from gainstage.detect.kind.symptom_kind import Detector, DocRow, Signal, Signals, SymptomKind
from gainstage.detect.series.history import CHUNK, History
from gainstage.detect.series.loss_range import NOISES, RANGES, LossRange

_FEWEST = 4
_STRONG_RATIO = 100.0
_LONG = 8
_DROP = 0.5
_FASTER = 3.0
"""A quadratic falls 4 times as far in the later half as in the quarter before, a line twice."""
_BEYOND = 8.0
_EIGHTHS = 8
_SECOND_BITS = 2.0
"""What the gradient must have grown by, to be the second sign."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossAboveEvidence:
    """A loss far above its range."""

    form: Literal["above"] = "above"
    loss: float
    highest_before: float
    """Top of the range that the loss had while it was healthy."""
    height_in_ranges: float
    """Median of the last losses above that top, in units of the range."""
    is_lasting: bool
    """Whether it has stayed above for 8 steps; else it rises."""
    at_step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LossUnlearntEvidence:
    """A loss that was far below its start and now stays above it."""

    form: Literal["unlearnt"] = "unlearnt"
    loss: float
    """Median of the last 16 steps."""
    loss_at_start: float
    lowest: float
    gradient_bits: float
    """Bits of the gradient norm above its level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossUnboundedEvidence:
    """A loss far below zero that falls ever faster."""

    form: Literal["unbounded"] = "unbounded"
    loss: float
    loss_at_start: float
    first_loss: float
    """Median of the first chunk of the record."""
    fall_ratio: float
    """Fall in the later half of the run over that in the quarter before."""
    gradient_bits: float
    """Bits that the gradient norm has grown by."""


Evidence = LossAboveEvidence | LossUnlearntEvidence | LossUnboundedEvidence


def message(evidence: Evidence) -> str:
    """Return the sentence for people."""
    match evidence:
        case LossAboveEvidence():
            course = "stays" if evidence.is_lasting else "rising"
            return (
                f"the loss is {evidence.loss:.3g} at step {evidence.at_step} and {course}; the run "
                f"had known at most {evidence.highest_before:.3g}"
            )
        case LossUnlearntEvidence():
            return (
                f"the loss stays at {evidence.loss:.3g}, worse than untrained "
                f"({evidence.loss_at_start:.3g}), after it had been {evidence.lowest:.3g}; the "
                f"gradient norm is {evidence.gradient_bits:+.1f} bits from its level"
            )
        case LossUnboundedEvidence():
            return (
                f"the loss falls ever faster, from {evidence.first_loss:.3g} to "
                f"{evidence.loss:.3g}: it has no lower bound; the gradient norm has grown "
                f"{evidence.gradient_bits:.1f} bits"
            )


def fails_if_last(evidence: Evidence) -> int | None:
    """Return how near the end the run must have diverged to have failed.

    All but a loss that is above its range are looked at once a chunk.
    """
    return 1 if isinstance(evidence, LossAboveEvidence) else CHUNK


def update(state: None, given: StepInput) -> tuple[None, Signals]:
    """Return a signal if the last losses have left the range before them."""
    series, step = given.series, given.step
    history, known = series.loss, series.loss_range
    if history.count < _FEWEST:
        return state, ()
    signal = None
    if history.count % CHUNK == 0:
        signal = _falls_ever_faster(known, history, series.norm, series.fall, step)
        signal = signal or _unlearnt(known, history, series.norm, step)
    if signal is None and known.is_out:
        signal = _above(known, history, step)
    return state, () if signal is None else (signal,)


def _above(known: LossRange, history: History, step: int) -> Signal | None:
    last = history.last(_FEWEST)
    middle = statistics.median(last)
    if middle <= known.reach:
        return None
    stays = history.count > _LONG and min(history.last(_LONG)) > known.highest
    if theil_sen(range(len(last)), last) <= 0 and not stays:
        return None
    unit = max(known.highest - known.lowest, abs(known.highest), 1e-30)
    height = (middle - known.highest) / unit
    evidence = LossAboveEvidence(
        loss=history.recent[-1],
        highest_before=known.highest,
        height_in_ranges=height,
        is_lasting=stays,
        at_step=step,
    )
    is_strong = height >= _STRONG_RATIO or (height >= RANGES and history.count > _LONG)
    return Signal(
        evidence=evidence, severity="warning", step=step, last_step=step, is_strong=is_strong
    )


def _unlearnt(known: LossRange, history: History, norm: History, step: int) -> Signal | None:
    """Return a signal if the loss was far below its start and now stays above it."""
    best = min(history.chunks)
    drop = known.start - best
    last = history.last(2 * CHUNK)
    if history.count < 4 * CHUNK or drop <= _DROP * max(
        abs(known.start), NOISES / 2 * history.noise
    ):
        return None
    low, high = statistics.median(last[:CHUNK]), statistics.median(last[CHUNK:])
    # A curve that comes down again, as after a change of task, is on its way back.
    if min(low, high) < known.start + _DROP / 2 * drop or high < low - 0.1 * drop:
        return None
    grown = norm.median(CHUNK) - norm.level if norm.count else 0.0
    evidence = LossUnlearntEvidence(
        loss=high, loss_at_start=known.start, lowest=best, gradient_bits=grown
    )
    return _strong(evidence, step, grown)


def _falls_ever_faster(
    known: LossRange, history: History, norm: History, fall: History, step: int
) -> Signal | None:
    """Return a signal if the loss is far below zero and its fall has more than tripled twice over.

    What falls farther than its own updates can have lowered it is lowered by something else: an
    actor's loss falls as its critic learns what the states are worth.
    """
    is_short = len(history.chunks) < _EIGHTHS
    chunks = _eighths(history) if is_short else history.chunks
    if len(chunks) < _EIGHTHS or chunks[-1] >= 0:
        return None
    now, half, quarter = chunks[-1], chunks[len(chunks) // 2], chunks[len(chunks) // 4]
    size = max(abs(known.start), abs(chunks[0]), known.highest - chunks[0])
    if quarter <= half or half - now < _FASTER * (quarter - half) or -now < _BEYOND * size:
        return None
    own = _eighths(fall) if is_short else fall.chunks
    if len(own) == len(chunks) and half - now > own[-1] - own[len(own) // 2]:
        return None
    grown = norm.chunks[-1] - norm.chunks[0] if norm.chunks else 0.0
    evidence = LossUnboundedEvidence(
        loss=now,
        loss_at_start=known.start,
        first_loss=chunks[0],
        fall_ratio=(half - now) / (quarter - half),
        gradient_bits=grown,
    )
    return _strong(evidence, step, grown)


def _strong(evidence: Evidence, step: int, grown_bits: float) -> Signal:
    """Return a signal that is critical where the gradient has grown as well."""
    return Signal(
        evidence=evidence,
        severity="critical" if grown_bits >= _SECOND_BITS else "warning",
        step=step,
        last_step=step,
        is_strong=True,
    )


def _eighths(history: History) -> list[float]:
    """Return medians of eighths of a run so short that all of it is remembered."""
    values = list(history.recent)
    if history.count > len(values) or len(values) < 4 * _EIGHTHS:
        return []
    size = len(values) // _EIGHTHS
    return [statistics.median(values[i * size : (i + 1) * size]) for i in range(_EIGHTHS)]


KIND = SymptomKind(
    id="loss-divergence",
    evidence=(LossAboveEvidence, LossUnlearntEvidence, LossUnboundedEvidence),
    detectors=(Detector(family="loss", losses=update),),
    message=message,
    fails_if_last=fails_if_last,
    docs=(
        DocRow(
            "height above the range known so far, in ranges: rising, or staying for 8 steps; worse "
            "than untrained after it had been good; below zero and falling ever faster (three "
            "times as far in the later half as in the quarter before)",
            "loss, global norm",
            "ranges",
            "warning, strong; the last two critical if the norm has grown 2 bits",
            "catapults, restarts, a new task on its way down, log-likelihoods that level off; a "
            "fall beyond what the loss's own updates (SGD, Adam and its kin) can have lowered it "
            "by, as an actor's whose critic learns",
        ),
    ),
)
