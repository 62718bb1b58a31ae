"""S2 `weight-growth`: the norm of a weight rises without end.

Weights grow a little in every healthy training, and those that begin at zero by any factor.
Reported is a tensor that has grown 16-fold since a quarter of the run, rises at every sample, and
whose elements are no longer of ordinary size; and weights that have doubled, all together, within
32 steps; and weights that grow by something else than the optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from gainstage.bits import theil_sen
from gainstage.detect.kind.inputs import WeightSample
from gainstage.detect.kind.symptom_kind import Detector, DocRow, Signal, Signals, SymptomKind
from gainstage.detect.series.trend import headroom_bits, mann_kendall
from gainstage.detect.series.weight_history import WeightHistory
from gainstage.detect.update import growth_beyond_updates
from gainstage.detect.update.growth_beyond_updates import GrowthBeyondUpdatesEvidence
from gainstage.facts.tensor import TensorInfo

_FEWEST = 6
_NOTABLE_BITS = 4.0
_RISES = 2.3
_ORDINARY_RMS = 1.0
_DOUBLED_BITS = 1.0
_STROKE_STEPS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorGrowthEvidence:
    """The tensor that has grown most."""

    form: Literal["tensor"] = "tensor"
    tensor: str
    bits_gained: float
    slope_bits_per_step: float
    headroom_bits: float
    """Bits that are left to the dtype's largest value, at least."""
    since_step: int
    at_step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsDoubledEvidence:
    """All weights together, at a stroke."""

    form: Literal["doubled"] = "doubled"
    bits_gained: float
    norm_bits: float
    """log2 of the norm of all weights."""
    steps: int
    """Steps between the two samples."""
    at_step: int


Evidence = TensorGrowthEvidence | WeightsDoubledEvidence | GrowthBeyondUpdatesEvidence


def message(evidence: Evidence) -> str:
    """Return the sentence for people."""
    match evidence:
        case TensorGrowthEvidence():
            return (
                f"{evidence.tensor} grew {evidence.bits_gained:.1f} bits since step "
                f"{evidence.since_step}, {evidence.slope_bits_per_step:+.2g} bits a step at step "
                f"{evidence.at_step}"
            )
        case WeightsDoubledEvidence(at_step=step):
            return (
                f"the norm of all weights rose {evidence.bits_gained:.1f} bits from step "
                f"{step - evidence.steps} to {step}"
            )
        case GrowthBeyondUpdatesEvidence(norm_before=norm):
            return (
                f"the norm of all weights grew by {evidence.grown / norm:.0%} from step "
                f"{evidence.since} to {evidence.at_step}, and all updates together move it by "
                f"{evidence.moved_by_updates / norm:.2%} at most"
            )


@dataclass(frozen=True, slots=True)
class Largest:
    """State: the largest norm of all weights so far, in bits."""

    bits: float = -math.inf


def update(state: Largest, sample: WeightSample) -> tuple[Largest, Signals]:
    """Return the signals of the tensor that has grown most, and of all weights together."""
    if not sample.is_kept:
        return state, ()
    grown = _grown(sample.history, sample.tensors)
    state, doubled = _doubled(state, sample.history, sample.tensors)
    return state, [signal for signal in (grown, doubled) if signal is not None]


def _grown(history: WeightHistory, tensors: Sequence[TensorInfo]) -> Signal | None:
    count = len(history.steps)
    if count < _FEWEST:
        return None
    start, last = history.bits[count // 4], history.bits[-1]
    with np.errstate(invalid="ignore"):  # a weight that is zero, before and now
        gained = last[: len(start)] - start
    gained = np.where(np.isfinite(gained), gained, -math.inf)
    if not len(gained) or gained.max() < _NOTABLE_BITS:
        return None
    index = int(gained.argmax())
    info = tensors[index]
    if last[index] - 0.5 * math.log2(max(info.numel, 1)) < math.log2(_ORDINARY_RMS):
        return None
    slope = _rising_slope(history, count // 4, index)
    if slope is None:
        return None
    step = history.steps[-1]
    evidence = TensorGrowthEvidence(
        tensor=info.name,
        bits_gained=float(gained[index]),
        slope_bits_per_step=slope,
        headroom_bits=headroom_bits(2.0 ** float(last[index]), info.dtype),
        since_step=history.steps[count // 4],
        at_step=step,
    )
    # One small tensor among many, such as a bias or a scale that is learnt, is no trouble by
    # itself, nor does it bear out what else is seen.
    rules = bool(last[index] >= history.latest - 1.0)
    return Signal(
        evidence=evidence,
        severity="warning" if rules else "info",
        step=step,
        last_step=step,
        is_strong=rules,
    )


def _rising_slope(history: WeightHistory, first: int, tensor: int) -> float | None:
    """Return the slope of a tensor's later samples, None where it does not rise beyond doubt."""
    series = [float(sample[tensor]) for sample in history.bits[first:]]
    steps = history.steps[first:]
    known = [at for at, bits in enumerate(series) if math.isfinite(bits)]
    half = [at for at in known if at >= len(series) // 2]
    slope = theil_sen([steps[at] for at in half], [series[at] for at in half])
    if mann_kendall([series[at] for at in known]) < _RISES or slope <= 0:
        return None
    return slope


def _doubled(
    state: Largest, history: WeightHistory, tensors: Sequence[TensorInfo]
) -> tuple[Largest, Signal | None]:
    """Return a signal if all weights together have doubled at a stroke, beyond all before."""
    if len(history.total) < 2 or not math.isfinite(history.latest):
        return state, None
    before, now = history.total[-2:]
    largest = max(state.bits, before)
    state = replace(state, bits=max(state.bits, now))
    steps = history.steps[-1] - history.steps[-2]
    if not _DOUBLED_BITS <= now - largest < math.inf or steps > _STROKE_STEPS:
        return state, None
    elements = sum(info.numel for info in tensors)
    if now - 0.5 * math.log2(max(elements, 1)) < math.log2(_ORDINARY_RMS):
        return state, None
    step = history.steps[-1]
    evidence = WeightsDoubledEvidence(
        bits_gained=now - before, norm_bits=now, steps=steps, at_step=step
    )
    signal = Signal(
        evidence=evidence, severity="warning", step=step, last_step=step, is_strong=True
    )
    return state, signal


KIND = SymptomKind(
    id="weight-growth",
    evidence=(TensorGrowthEvidence, WeightsDoubledEvidence, GrowthBeyondUpdatesEvidence),
    detectors=(
        Detector(family="weight", start=Largest, weights=update),
        Detector(
            family="weight",
            start=growth_beyond_updates.Updates,
            stretches=growth_beyond_updates.update_by_steps,
            weights=growth_beyond_updates.update,
        ),
    ),
    message=message,
    docs=(
        DocRow(
            "a tensor 4 bits above a quarter of the run ago, rising, elements of rms ≥ 1; all "
            "weights doubled within 32 steps",
            "sampled weights",
            "bits, bits a step",
            "warning, strong; note for one small tensor",
            "weights that grow from a small start",
        ),
        DocRow(
            "by more than twice what all updates together can have moved it, the norm of all "
            "weights rises at 3 samples in a row, and by a quarter in all (SGD, Adam and its kin, "
            "one rate)",
            "sampled weights, norms, rates",
            "share",
            "warning, strong",
            "a checkpoint loaded; other optimizers",
        ),
    ),
)
