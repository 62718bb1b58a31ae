from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gainstage.norms.total import gradient_norms, small_norms

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
LARGE = {dtype: min(torch.finfo(dtype).max / 8, 1e150) for dtype in DTYPES}


def agree(grads: list[Tensor | None]) -> None:
    """Compare both ways to read with the norms of one vector in float64, scaled by 2^-64."""
    wide = [None if grad is None else grad.detach().double() * 2.0**-64 for grad in grads]
    expected = [None if grad is None else float(grad.norm()) * 2.0**64 for grad in wide]
    for read in (small_norms, gradient_norms):
        norms, total = read(grads)
        for norm, want in zip(norms, expected, strict=True):
            assert norm == (want if want is None else pytest.approx(want, rel=1e-5, nan_ok=True))
        there = [norm for norm in expected if norm is not None]
        want = math.hypot(*there) if there else None
        assert total == (want if want is None else pytest.approx(want, rel=1e-5, nan_ok=True))


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.lists(st.floats(-(2.0**127), 2.0**127, width=32), max_size=9).map(torch.tensor),
            st.sampled_from(DTYPES).map(
                lambda dtype: torch.full((3, 2), LARGE[dtype], dtype=dtype)
            ),
            st.sampled_from(DTYPES).map(lambda dtype: torch.linspace(-1, 1, 7).to(dtype)),
            st.sampled_from([1e-38, 1e-30, 0.0, 1e25]).map(lambda value: torch.full((5,), value)),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_norms_and_total_are_right_over_the_whole_range(grads: list[Tensor | None]) -> None:
    agree(grads)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_finite_is_seen_in_its_tensor_and_in_the_total(
    value: float, dtype: torch.dtype
) -> None:
    sick = torch.ones(70, dtype=dtype)
    sick[41] = value
    norms, total = small_norms([torch.ones(4, dtype=dtype), None, sick])
    assert norms[:2] == [2.0, None]
    assert norms[2] is not None
    assert total is not None
    assert not math.isfinite(norms[2])
    assert not math.isfinite(total)


@pytest.mark.parametrize("count", [1, 24, 25, 150])
def test_few_and_many_are_read_alike(count: int) -> None:
    agree([torch.full((3, 4), 0.25 * (position + 1)) for position in range(count)])


def test_gradients_that_torch_does_not_take_in_one_are_read() -> None:
    indices = torch.tensor([[0, 2, 0]])
    sparse = torch.sparse_coo_tensor(
        indices, torch.tensor([1.0, 4.0, 2.0]), (3,), check_invariants=True
    )
    norms, total = small_norms([torch.ones(9), sparse, torch.ones(4, dtype=torch.float64)])
    assert norms == [3.0, 5.0, 2.0]
    assert total == pytest.approx(math.sqrt(38.0))
    assert small_norms([None, None]) == ([None, None], None)
