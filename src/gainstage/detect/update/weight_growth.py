"""S2 `weight-growth`: the norm of a weight rises without end.

Weights grow a little in every healthy training, and those that begin at zero by any factor. Told
is a tensor that has grown 16-fold since a quarter of the run, rises at every sample, and whose
elements are no longer of ordinary size; and weights that have doubled, all together, within 32
steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gainstage.bits import theil_sen
from gainstage.detect.series.sign import Sign
from gainstage.detect.series.trend import headroom_bits, mann_kendall
from gainstage.facts.blocks import WeightBlock
from gainstage.facts.tensor import TensorInfo

_FEWEST = 6
_MOST = 128
_NOTABLE_BITS = 4.0
_RISES = 2.3
_ORDINARY_RMS = 1.0
_DOUBLED_BITS = 1.0
_STROKE_STEPS = 32


@dataclass(slots=True)
class Weights:
    """Online state: samples of all norms in bits, thinned out so that they stay few."""

    steps: list[int] = field(default_factory=list[int])
    bits: list[NDArray[np.float64]] = field(default_factory=list[NDArray[np.float64]])
    every: int = 1
    seen: int = 0
    total: list[float] = field(default_factory=list[float])
    """Norm of all weights together, in bits, of the same samples."""
    largest: float = -math.inf

    @property
    def latest(self) -> float:
        """Norm of all weights at the latest sample, in bits; NaN before there is one."""
        return self.total[-1] if self.total else math.nan


def look(state: Weights, block: WeightBlock, tensors: Sequence[TensorInfo]) -> list[Sign]:
    """Take in samples one by one; return for each the sign of the tensor that has grown most."""
    found: list[Sign] = []
    for row in range(len(block)):
        state.seen += 1
        if state.seen % state.every:
            continue
        norms = np.where(block.present[row], block.weight_norms[row], np.nan).astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            state.bits.append(np.log2(norms))
            known = norms[~np.isnan(norms)]
            state.total.append(float(np.log2(np.linalg.norm(known))) if len(known) else math.nan)
        state.steps.append(int(block.step[row]))
        found += [s for s in (_judge(state, tensors), _jump(state, tensors)) if s is not None]
        if len(state.steps) >= _MOST:
            state.steps, state.bits = state.steps[1::2], state.bits[1::2]
            state.total = state.total[1::2]
            state.every *= 2
    return found


def _judge(state: Weights, tensors: Sequence[TensorInfo]) -> Sign | None:
    count = len(state.steps)
    if count < _FEWEST:
        return None
    start, last = state.bits[count // 4], state.bits[-1]
    with np.errstate(invalid="ignore"):  # a weight that is zero, before and now
        grown = last[: len(start)] - start
    grown = np.where(np.isfinite(grown), grown, -math.inf)
    if not len(grown) or grown.max() < _NOTABLE_BITS:
        return None
    index = int(grown.argmax())
    info = tensors[index]
    if last[index] - 0.5 * math.log2(max(info.numel, 1)) < math.log2(_ORDINARY_RMS):
        return None
    series = [sample[index] for sample in state.bits[count // 4 :]]
    half = series[len(series) // 2 :]
    slope = theil_sen(state.steps[-len(half) :], half)
    if mann_kendall(series) < _RISES or slope <= 0:
        return None
    room = headroom_bits(2.0 ** float(last[index]), info.dtype)
    step = state.steps[-1]
    # One small tensor among many, such as a bias or a scale that is learnt, is no trouble by
    # itself, nor does it bear out what else is seen.
    rules = bool(last[index] >= state.latest - 1.0)
    return Sign(
        "weight-growth",
        "weight",
        "warning" if rules else "info",
        step,
        f"{info.name} grew {grown[index]:.1f} bits since step {state.steps[count // 4]}, "
        f"{slope:+.2g} bits a step at step {step}",
        strong=rules,
        last_step=step,
        evidence={
            "tensor": info.name,
            "bits_gained": float(grown[index]),
            "slope_bits_per_step": slope,
            "headroom_bits": room,
        },
    )


def _jump(state: Weights, tensors: Sequence[TensorInfo]) -> Sign | None:
    """Return a sign if all weights together have doubled at a stroke, beyond all before."""
    if len(state.total) < 2 or not math.isfinite(state.latest):
        return None
    before, now = state.total[-2:]
    largest, state.largest = max(state.largest, before), max(state.largest, now)
    if now - largest < _DOUBLED_BITS or state.steps[-1] - state.steps[-2] > _STROKE_STEPS:
        return None
    elements = sum(info.numel for info in tensors)
    if now - 0.5 * math.log2(max(elements, 1)) < math.log2(_ORDINARY_RMS):
        return None
    step = state.steps[-1]
    return Sign(
        "weight-growth",
        "weight",
        "warning",
        step,
        f"the norm of all weights rose {now - before:.1f} bits from step {state.steps[-2]} to "
        f"{step}",
        strong=True,
        last_step=step,
        evidence={"bits_gained": now - before, "norm_bits": now, "steps": step - state.steps[-2]},
    )
