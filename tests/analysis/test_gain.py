"""Levels are exact over the whole range; slopes and horizons are those of the textbook."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gainstage.analysis.gain import (
    crossover,
    gain_bits,
    headroom_bits,
    level_bits,
    levels_bits,
    memory_horizon,
    slope_bits,
    stages_to_overflow,
)
from gainstage.errors import ConfigError

VALUES = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=40)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("exponent", [-120, -60, 0, 64, 120])
def test_a_level_is_exact_where_squares_are_not(dtype: torch.dtype, exponent: int) -> None:
    x = torch.full((1000,), 2.0**exponent, dtype=dtype)
    x[::2] *= -1
    assert level_bits(x) == pytest.approx(exponent, abs=1e-6)


def test_levels_at_the_ends_of_the_range() -> None:
    assert level_bits(torch.tensor([5e-45])) == pytest.approx(math.log2(5e-45), abs=0.2)
    assert level_bits(torch.full((3,), 3.4e38)) == pytest.approx(math.log2(3.4e38), abs=1e-6)
    assert level_bits(torch.zeros(3)) == level_bits(torch.empty(0)) == -math.inf
    assert level_bits(torch.tensor([1.0, math.inf])) == math.inf
    assert math.isnan(level_bits(torch.tensor([1.0, math.nan])))
    assert levels_bits([]).shape == (0,)
    assert level_bits(torch.tensor([3 + 4j, -5j])) == pytest.approx(math.log2(5))
    assert level_bits(torch.tensor([2, -2])) == 1.0


@given(VALUES, st.integers(-30, 30))
def test_scaling_adds_bits_and_order_does_not_matter(values: list[float], exponent: int) -> None:
    x = torch.tensor(values, dtype=torch.float64)
    level = level_bits(x)
    if level == -math.inf:
        return
    assert level_bits(x * 2.0**exponent) == pytest.approx(level + exponent, abs=1e-9)
    assert level_bits(x.flip(0)) == pytest.approx(level, abs=1e-9)
    assert level == pytest.approx(0.5 * math.log2(np.mean(np.square(values))), abs=1e-6)


@given(st.lists(st.floats(-300, 300), min_size=2, max_size=20))
def test_gains_of_stages_add_up(levels: list[float]) -> None:
    gains = [gain_bits(first, second) for first, second in pairwise(levels)]
    assert sum(gains) == pytest.approx(gain_bits(levels[0], levels[-1]), abs=1e-9)


@given(st.floats(-5, 5), st.floats(-100, 100), st.integers(2, 1500))
def test_a_straight_line_has_its_slope(slope: float, start: float, count: int) -> None:
    levels = start + slope * np.arange(count)
    assert slope_bits(levels) == pytest.approx(slope, abs=1e-9)


def test_slopes_look_at_finite_levels_only() -> None:
    assert slope_bits([0.0, math.nan, 2.0, math.inf, 4.0]) == 1.0
    assert slope_bits([1.0]) == slope_bits([-math.inf, -math.inf]) == 0.0


def test_headroom_is_what_a_dtype_leaves() -> None:
    assert headroom_bits(65504.0, "float16") == 0.0
    assert headroom_bits(1.0, "float32") == pytest.approx(128.0, abs=1e-6)
    assert headroom_bits(0.0, "float16") == math.inf
    assert headroom_bits(math.inf, "float16") == -math.inf
    with pytest.raises(ConfigError, match="got 'int8'"):
        headroom_bits(1.0, "int8")
    with pytest.raises(ConfigError, match="not be negative"):
        headroom_bits(-1.0, "float16")


def test_the_linear_chain_crosses_over_at_one() -> None:
    scales = [0.25, 0.5, 2.0, 4.0]
    assert crossover(scales, [math.log2(w) for w in scales]) == pytest.approx(1.0)
    assert crossover([3.0, 1.0, 0.5], [1.6, 0.0, -1.0]) == 1.0
    assert crossover([0.5, 1.0], [-1.0, 0.0]) == 1.0
    assert crossover([2.0, 3.0], [1.0, 1.6]) is None
    with pytest.raises(ConfigError, match="must be positive"):
        crossover([0.0, 1.0], [1.0, 2.0])


def test_stages_to_overflow_and_memory() -> None:
    left = stages_to_overflow(0.0, math.log2(1.01))
    assert left["float32"] == pytest.approx(128 / math.log2(1.01), rel=1e-6)
    assert left["float16"] == pytest.approx(math.log2(65504) / math.log2(1.01), rel=1e-9)
    assert set(stages_to_overflow(0.0, -1.0).values()) == {math.inf}
    assert stages_to_overflow(200.0, 1.0)["float32"] == 0.0
    assert math.isnan(stages_to_overflow(math.nan, 1.0)["float32"])
    assert memory_horizon(math.log2(0.99)) == pytest.approx(1655.2, rel=1e-4)
    assert memory_horizon(0.0) == memory_horizon(1.0) == math.inf
