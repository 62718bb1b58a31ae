from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gainstage.norms.sums import norm_of

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def oracle(tensor: Tensor, p: float) -> float:
    """Return the norm by NumPy's extended precision, scaled so that nothing overflows."""
    values = np.abs(tensor.detach().double().numpy().reshape(-1).astype(np.longdouble))
    largest = float(values.max(initial=0.0))
    if largest == 0.0 or p == math.inf:
        return largest
    return float(largest * np.sum((values / largest) ** p) ** (1 / np.longdouble(p)))


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, 0.5, math.inf])
@pytest.mark.parametrize("size", [1, 7, 4096, 4097, 70_000])
@pytest.mark.parametrize("scale", [1e-38, 1e-25, 1e-12, 1.0, 1e12, 1e25, 3e37])
def test_the_norm_is_exact_over_the_whole_range_of_float32(
    p: float, size: int, scale: float
) -> None:
    tensor = torch.rand(size, generator=torch.Generator().manual_seed(size)) * scale
    assert norm_of(tensor, p) == pytest.approx(oracle(tensor, p), rel=1e-6)


@pytest.mark.parametrize("size", [4097, 300_000, 3_000_000])
def test_equal_values_do_not_pile_up_rounding_errors(size: int) -> None:
    tensor = torch.full((size,), 0.1)
    assert norm_of(tensor) == pytest.approx(float(tensor[0]) * math.sqrt(size), rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_finite_values_have_a_finite_norm(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    norm = norm_of(torch.full((9,), largest, dtype=dtype))
    # Only float64's own maximum leaves no room: the norm of nine exceeds every float.
    assert norm == (math.inf if dtype is torch.float64 else pytest.approx(3 * largest, rel=1e-6))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("value", "norm"), [(math.inf, math.inf), (-math.inf, math.inf)])
def test_one_infinite_value_makes_the_norm_infinite(
    dtype: torch.dtype, value: float, norm: float
) -> None:
    tensor = torch.ones(5000, dtype=dtype)
    tensor[4321] = value
    assert norm_of(tensor) == norm


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_nan_makes_the_norm_nan(dtype: torch.dtype) -> None:
    tensor = torch.ones(5000, dtype=dtype)
    tensor[4321] = math.nan
    tensor[17] = math.inf
    assert math.isnan(norm_of(tensor))


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_and_nothing_have_norm_zero(dtype: torch.dtype) -> None:
    assert norm_of(torch.zeros(300, dtype=dtype)) == 0.0
    assert norm_of(torch.empty(0, dtype=dtype)) == 0.0


def test_memory_order_does_not_matter() -> None:
    tensor = torch.randn(6, 5, 8, 9)
    want = norm_of(tensor)
    assert norm_of(tensor.to(memory_format=torch.channels_last)) == pytest.approx(want, rel=1e-6)
    assert norm_of(tensor.transpose(0, 3)) == pytest.approx(want, rel=1e-6)
    assert norm_of(tensor[::2]) == pytest.approx(oracle(tensor[::2], 2), rel=1e-6)
    assert norm_of(tensor[:1].expand(4, 5, 8, 9)) == pytest.approx(
        2 * norm_of(tensor[:1]), rel=1e-6
    )


def test_reading_leaves_the_storage_resizable() -> None:
    tensor = torch.ones(1000)
    norm_of(tensor)
    tensor.untyped_storage().resize_(0)
    assert tensor.untyped_storage().size() == 0


def test_memory_that_is_used_again_for_another_tensor_is_read_anew() -> None:
    for size in (10, 20, 10, 15):
        for value in (1.0, 2.0):
            tensor = torch.full((size,), value)
            assert norm_of(tensor) == pytest.approx(value * math.sqrt(size), rel=1e-6)
            del tensor


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=64),
    st.sampled_from([1.0, 1.5, 2.0, 7.0, math.inf]),
)
def test_the_norm_agrees_with_extended_precision(values: list[float], p: float) -> None:
    tensor = torch.tensor(values, dtype=torch.float32)
    assert norm_of(tensor, p) == pytest.approx(oracle(tensor, p), rel=1e-6, abs=1e-45)
