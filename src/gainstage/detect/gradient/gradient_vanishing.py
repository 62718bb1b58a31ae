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

import numpy as np
from numpy.typing import NDArray

from gainstage.bits import theil_sen
from gainstage.detect.series.sign import Sign
from gainstage.detect.series.trend import mann_kendall, rises_by
from gainstage.facts.blocks import StepBlock
from gainstage.facts.tensor import TensorInfo

LOST_BITS = 24.0
_SHARE = 0.5
_FEWEST_LAYERS = 6
_RISES = 2.3


@dataclass(slots=True)
class Vanishing:
    """Online state: what gradients and losses were when there was a signal."""

    usual: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """By tensor: the largest median over a piece of the record."""
    start: float | None = None
    """Median of the first three losses."""
    lowest: float | None = None
    size_bits: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """log2 of each matrix's number of elements; NaN for what is no matrix."""
    is_deep: bool = False
    """Whether the loss over depth has been told."""


def look(state: Vanishing, piece: StepBlock, tensors: Sequence[TensorInfo]) -> list[Sign]:
    """Return the signs of one piece of the record."""
    norms = np.where(piece.present & np.isfinite(piece.grad_norms), piece.grad_norms, np.nan)
    # NaN sorts to the end, which is several times faster than NumPy's own nanmedian.
    ordered = np.sort(norms.astype(np.float64), axis=0)
    given = np.count_nonzero(~np.isnan(ordered), axis=0)
    there = given > 0
    if not there.any():
        return []
    columns = np.arange(len(given))
    largest = np.where(there, ordered[given - 1, columns], 0.0)
    middle = np.where(there, ordered[(given - 1) // 2, columns], 0.0)
    found = [
        *_over_steps(state, piece, largest, there),
        *_over_depth(state, piece, middle, tensors),
    ]
    state.usual = np.pad(state.usual, (0, max(0, len(there) - len(state.usual))))
    np.maximum(state.usual, middle, out=state.usual)
    return found


def _over_steps(
    state: Vanishing, piece: StepBlock, largest: NDArray[np.float64], there: NDArray[np.bool_]
) -> list[Sign]:
    losses = piece.loss[piece.has_loss & np.isfinite(piece.loss)].tolist()
    if not losses:
        return []
    now = statistics.median(losses)
    start = state.start = statistics.median(losses[:3]) if state.start is None else state.start
    lowest = state.lowest = now if state.lowest is None else min(now, state.lowest)
    known = np.zeros(len(there), dtype=np.bool_)
    known[: len(state.usual)] = state.usual > 0
    known &= there
    if not known.any():
        return []
    silent = known.copy()
    silent[known] = largest[known] <= state.usual[known[: len(state.usual)].nonzero()[0]] * (
        2.0**-LOST_BITS
    )
    share = float(silent.sum() / known.sum())
    if share < _SHARE or now <= lowest + 0.1 * (start - lowest):
        return []
    step = int(piece.step[-1])
    hopeless = now >= start - 0.02 * (start - lowest)
    compared = "no lower than before training" if hopeless else "not at its lowest"
    return [
        Sign(
            "gradient-vanishing",
            "gradient",
            # Two signs: no signal reaches the weights, and the loss is that of an untrained net.
            "critical" if hopeless else "warning",
            step,
            f"the gradients of {share:.0%} of the tensors are gone since step "
            f"{int(piece.step[0])}, while the loss, {now:.3g}, is {compared}",
            strong=True,
            count=len(piece),
            last_step=step,
            evidence={"share_silent": share, "loss": now, "loss_at_start": start},
        )
    ]


def _over_depth(
    state: Vanishing,
    piece: StepBlock,
    middle: NDArray[np.float64],
    tensors: Sequence[TensorInfo],
) -> list[Sign]:
    if state.is_deep:
        return []
    if len(state.size_bits) != len(tensors):
        sizes = [info.numel if len(info.shape) > 1 else math.nan for info in tensors]
        state.size_bits = np.log2(np.array(sizes, dtype=np.float64))
    known = min(len(middle), len(tensors))
    layers = np.flatnonzero(~np.isnan(state.size_bits[:known]) & (middle[:known] > 0))
    if len(layers) < _FEWEST_LAYERS:
        return []
    bits = np.log2(middle[layers]) - 0.5 * state.size_bits[layers]
    if not rises_by(bits, LOST_BITS / (len(layers) - 1)):
        return []
    slope = theil_sen(range(len(layers)), bits)
    lost = slope * (len(layers) - 1)
    if lost < LOST_BITS or mann_kendall(bits) < _RISES:
        return []
    state.is_deep = True
    step = int(piece.step[-1])
    first, last = tensors[layers[0]].name, tensors[layers[-1]].name
    return [
        Sign(
            "gradient-vanishing",
            "gradient",
            "warning",
            step,
            f"the gradient loses {lost:.0f} bits from {last} to {first}, {slope:.2g} bits a tensor",
            last_step=step,
            evidence={"bits_lost": lost, "slope_bits_per_tensor": slope, "tensors": len(layers)},
        )
    ]
