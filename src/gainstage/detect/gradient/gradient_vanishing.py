"""`gradient-vanishing`: gradients that are gone, over steps or over depth, in bits lost.

Over steps: a tensor is silent when its gradient is 24 bits, float32's precision, below the largest
it usually was. Silence at the lowest loss is the end of a training; silence above it is its death.
Over depth: the rms gradients of the weight matrices, in the order in which they are registered.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gainstage.bits import theil_sen
from gainstage.detect.kind.inputs import Chunk
from gainstage.detect.kind.symptom_kind import Detector, DocRow, Signal, Signals, SymptomKind
from gainstage.detect.series.trend import mann_kendall, rises_by
from gainstage.facts.blocks import StepBlock
from gainstage.facts.tensor import TensorInfo

LOST_BITS = 24.0
_SHARE = 0.5
_FEWEST_LAYERS = 6
_RISES = 2.3


@dataclass(frozen=True, slots=True, kw_only=True)
class SilentGradientsEvidence:
    """Gradients that are gone since some step."""

    form: Literal["steps"] = "steps"
    share_silent: float
    """Of the tensors that ever had a gradient, 0 to 1."""
    loss: float
    loss_at_start: float
    is_untrained: bool
    """Whether the loss is that of a network before training."""
    since_step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientOverDepthEvidence:
    """A gradient that is lost from the last layer to the first."""

    form: Literal["depth"] = "depth"
    bits_lost: float
    slope_bits_per_tensor: float
    tensors: int
    first_tensor: str
    last_tensor: str


Evidence = SilentGradientsEvidence | GradientOverDepthEvidence


def message(evidence: Evidence) -> str:
    """Return the sentence for people."""
    match evidence:
        case SilentGradientsEvidence():
            untrained = "no lower than before training"
            compared = untrained if evidence.is_untrained else "not at its lowest"
            return (
                f"the gradients of {evidence.share_silent:.0%} of the tensors are gone since step "
                f"{evidence.since_step}, while the loss, {evidence.loss:.3g}, is {compared}"
            )
        case GradientOverDepthEvidence():
            return (
                f"the gradient loses {evidence.bits_lost:.0f} bits from {evidence.last_tensor} to "
                f"{evidence.first_tensor}, {evidence.slope_bits_per_tensor:.2g} bits a tensor"
            )


@dataclass(slots=True)
class Vanishing:
    """State: what gradients and losses were when there was a signal."""

    usual: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """By tensor: the largest median over a chunk of the record."""
    start: float | None = None
    """Median of the first three losses."""
    lowest: float | None = None
    size_bits: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """log2 of each matrix's number of elements; NaN for what is no matrix."""
    is_deep: bool = False
    """Whether the loss over depth has been reported."""


def update(state: Vanishing, chunk: Chunk) -> tuple[Vanishing, Signals]:
    """Return the signals of 16 steps."""
    block = chunk.block
    norms = np.where(block.present & np.isfinite(block.grad_norms), block.grad_norms, np.nan)
    # NaN sorts to the end, which is several times faster than NumPy's own nanmedian.
    ordered = np.sort(norms.astype(np.float64), axis=0)
    known = np.count_nonzero(~np.isnan(ordered), axis=0)
    there = known > 0
    if not there.any():
        return state, ()
    columns = np.arange(len(known))
    largest = np.where(there, ordered[known - 1, columns], 0.0)
    middle = np.where(there, ordered[(known - 1) // 2, columns], 0.0)
    signals = (
        _over_steps(state, block, largest, there),
        _over_depth(state, int(block.step[-1]), middle, chunk.tensors),
    )
    state.usual = np.pad(state.usual, (0, max(0, len(there) - len(state.usual))))
    np.maximum(state.usual[: len(middle)], middle, out=state.usual[: len(middle)])
    return state, [signal for signal in signals if signal is not None]


def _over_steps(
    state: Vanishing, block: StepBlock, largest: NDArray[np.float64], there: NDArray[np.bool_]
) -> Signal | None:
    losses = block.loss[block.has_loss & np.isfinite(block.loss)].tolist()
    if not losses:
        return None
    now = statistics.median(losses)
    start = state.start = statistics.median(losses[:3]) if state.start is None else state.start
    lowest = state.lowest = now if state.lowest is None else min(now, state.lowest)
    share = _share_silent(state.usual, largest, there)
    if share < _SHARE or now <= lowest + 0.1 * (start - lowest):
        return None
    is_untrained = now >= start - 0.02 * (start - lowest)
    evidence = SilentGradientsEvidence(
        share_silent=share,
        loss=now,
        loss_at_start=start,
        is_untrained=is_untrained,
        since_step=int(block.step[0]),
    )
    step = int(block.step[-1])
    return Signal(
        evidence=evidence,
        # Two signs: nothing reaches the weights, and the loss is that of an untrained net.
        severity="critical" if is_untrained else "warning",
        step=step,
        last_step=step,
        count=len(block),
        is_strong=True,
    )


def _share_silent(
    usual: NDArray[np.float64], largest: NDArray[np.float64], there: NDArray[np.bool_]
) -> float:
    """Return the share of the tensors that had a gradient before and have none to speak of."""
    before = np.zeros(len(there))
    before[: len(usual)] = usual[: len(there)]
    known = there & (before > 0)
    if not known.any():
        return 0.0
    silent = largest[known] <= before[known] * 2.0**-LOST_BITS
    return float(silent.sum() / known.sum())


def _over_depth(
    state: Vanishing, step: int, middle: NDArray[np.float64], tensors: Sequence[TensorInfo]
) -> Signal | None:
    if state.is_deep:
        return None
    if len(state.size_bits) != len(tensors):
        sizes = [info.numel if len(info.shape) > 1 else math.nan for info in tensors]
        with np.errstate(divide="ignore"):  # a matrix without elements
            state.size_bits = np.log2(np.array(sizes, dtype=np.float64))
    known = min(len(middle), len(tensors))
    layers = np.flatnonzero(np.isfinite(state.size_bits[:known]) & (middle[:known] > 0))
    if len(layers) < _FEWEST_LAYERS:
        return None
    bits = np.log2(middle[layers]) - 0.5 * state.size_bits[layers]
    if not rises_by(bits, LOST_BITS / (len(layers) - 1)):
        return None
    slope = theil_sen(range(len(layers)), bits)
    lost = slope * (len(layers) - 1)
    if lost < LOST_BITS or mann_kendall(bits) < _RISES:
        return None
    state.is_deep = True
    evidence = GradientOverDepthEvidence(
        bits_lost=lost,
        slope_bits_per_tensor=slope,
        tensors=len(layers),
        first_tensor=tensors[layers[0]].name,
        last_tensor=tensors[layers[-1]].name,
    )
    return Signal(evidence=evidence, severity="warning", step=step, last_step=step)


KIND = SymptomKind(
    id="gradient-vanishing",
    evidence=(SilentGradientsEvidence, GradientOverDepthEvidence),
    detectors=(Detector(family="gradient", start=Vanishing, chunks=update),),
    message=message,
    docs=(
        DocRow(
            "half of the tensors 24 bits below their usual norm; rms over depth falls 24 bits "
            "monotonically",
            "norms by tensor, loss",
            "share, bits, bits a tensor",
            "critical if the loss is that of an untrained net, else warning",
            "silence at the lowest loss",
        ),
    ),
)
