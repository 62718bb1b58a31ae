"""The depth at which a linear chain leaves its dtype: computed first, then shown by running it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from gainstage.lab.levels import dtype_named
from gainstage.lab.sheet import number

MOST_RUN = 20_000
"""Layers that are run to show it; beyond, only the formula speaks."""


@dataclass(frozen=True, slots=True)
class Depth:
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


def overflow_depth(weight: float, value: float, dtype: str) -> Depth:
    """Return where |x|·|w|^n leaves a dtype, by logarithms and by a run.

    The weight is the one the dtype holds: 1.0001 is 1 in float16 and never overflows. The formula
    asks for the first n with n·log2|w| + log2|x| beyond the largest value, or below half of the
    smallest, rounding at every layer left out; the run has it.
    """
    kind = dtype_named(dtype)
    info = torch.finfo(kind)
    w, x = (abs(torch.tensor(each, dtype=kind).item()) for each in (weight, value))
    largest = float(info.max)
    if math.isinf(x) or (math.isinf(w) and x):
        return Depth(dtype, largest, int(not math.isinf(x)), None, x, math.inf)
    predicted = _by_formula(w, x, math.log2(largest), math.log2(info.smallest_normal * info.eps))
    if predicted is None or predicted > MOST_RUN:
        return Depth(dtype, largest, predicted, None, math.nan, math.nan)
    measured, last, lost = _by_run(weight, value, kind)
    return Depth(dtype, largest, predicted, measured, last, lost)


def _by_formula(w: float, x: float, top_bits: float, bottom_bits: float) -> int | None:
    if not w or not x:
        return None if not x else 1
    gain, level = math.log2(w), math.log2(x)
    if gain > 0:
        return max(1, math.floor((top_bits - level) / gain) + 1)
    if gain < 0:
        # Half of the smallest subnormal rounds to 0.
        return max(1, math.ceil((level - bottom_bits + 1) / -gain))
    return None


def _by_run(weight: float, value: float, dtype: torch.dtype) -> tuple[int | None, float, float]:
    w, state = torch.tensor(weight, dtype=dtype), torch.tensor(value, dtype=dtype)
    for layer in range(1, MOST_RUN + 1):
        following = w * state
        now = following.item()
        if not math.isfinite(now) or now == 0:
            return layer, state.item(), now
        state = following
    return None, state.item(), math.nan
