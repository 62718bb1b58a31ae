"""The depth at which a linear chain leaves its dtype: computed first, then shown by running it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from gainstage.analysis.gain import level_bits, stages_to_overflow
from gainstage.bits import LARGEST
from gainstage.lab.topic_page import number
from gainstage.lab.validate import dtype_named

MOST_RUN = 20_000
"""Layers that are run to show it; beyond, only the formula speaks."""


@dataclass(frozen=True, slots=True)
class OverflowDepth:
    """Where the activations of a chain overflow, or sink to 0, in one dtype."""

    dtype: str
    largest: float
    predicted: int | None
    """First layer that is lost, by the formula; None if none ever is."""
    measured: int | None
    """The same, seen in a run; None if there is none, or it is too deep to run."""
    last_value: float
    """The activation of the layer before."""
    lost_value: float
    """What stands at the layer: inf or 0."""

    def row(self) -> tuple[str, ...]:
        """Return the depth as a row of texts."""
        head = (self.dtype, number(self.largest))
        if self.predicted is None:
            return (*head, "never", "-", "-", "-")
        if self.measured is None:
            return (*head, f"layer {self.predicted}", "not run", "-", "-")
        return (
            *head,
            f"layer {self.predicted}",
            f"layer {self.measured}",
            number(self.last_value),
            number(self.lost_value),
        )


def overflow_depth(weight: float, value: float, dtype: str) -> OverflowDepth:
    """Return where |x|·|w|^n leaves a dtype, by logarithms and by a run.

    The weight is the one the dtype holds: 1.0001 is 1 in float16 and never overflows. The formula
    asks for the first n with n·log2|w| + log2|x| beyond the largest value, or below half of the
    smallest, rounding at every layer left out; the run has it.
    """
    kind = dtype_named(dtype)
    info = torch.finfo(kind)
    level, gain = (level_bits(torch.tensor(each, dtype=kind)) for each in (value, weight))
    largest = LARGEST[str(kind).removeprefix("torch.")]
    if level == math.inf or (gain == math.inf and level > -math.inf):
        return OverflowDepth(dtype, largest, int(level < math.inf), None, level, math.inf)
    predicted = _by_formula(gain, level, info)
    if predicted is None or predicted > MOST_RUN:
        return OverflowDepth(dtype, largest, predicted, None, math.nan, math.nan)
    measured, last, lost = _by_run(weight, value, kind)
    return OverflowDepth(dtype, largest, predicted, measured, last, lost)


def _by_formula(gain: float, level: float, info: torch.finfo) -> int | None:
    if level == -math.inf or gain == 0:
        return None
    if gain == -math.inf:
        return 1
    if gain > 0:
        return max(1, math.floor(stages_to_overflow(level, gain)[info.dtype]) + 1)
    # Half of the smallest subnormal rounds to 0.
    bottom_bits = math.log2(info.smallest_normal * info.eps)
    return max(1, math.ceil((level - bottom_bits + 1) / -gain))


def _by_run(weight: float, value: float, dtype: torch.dtype) -> tuple[int | None, float, float]:
    w, state = torch.tensor(weight, dtype=dtype), torch.tensor(value, dtype=dtype)
    for layer in range(1, MOST_RUN + 1):
        following = w * state
        now = following.item()
        if not math.isfinite(now) or now == 0:
            return layer, state.item(), now
        state = following
    return None, state.item(), math.nan
