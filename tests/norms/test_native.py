"""The compiled reading gives the numbers of the one in Python, or leaves the gradients to it."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gainstage.norms import native
from gainstage.norms.total import gradient_norms

if native.plain_norms is None and shutil.which("cc") is None:
    pytest.skip("NOT COMPILED: there is no C compiler", allow_module_level=True)


def parameter(grad: Tensor | None) -> Tensor:
    owner = torch.zeros_like(grad, requires_grad=True) if grad is not None else torch.zeros(1)
    owner.grad = grad
    return owner


def norms_of(grads: list[Tensor | None]) -> tuple[list[float | None], float] | None:
    assert native.plain_norms is not None, "the C compiler is there, and _native.c is not compiled"
    return native.plain_norms([parameter(grad) for grad in grads])


@given(
    st.lists(
        st.tuples(
            st.integers(1, 20_000), st.floats(-140, 120), st.sampled_from([None, 0.0, 1e-44, 3e38])
        ),
        min_size=1,
        max_size=6,
    ),
    st.integers(0, 2**31),
)
def test_norms_are_those_of_float64(
    shapes: list[tuple[int, float, float | None]], seed: int
) -> None:
    torch.manual_seed(seed)
    grads: list[Tensor | None] = []
    for count, bits, value in shapes:
        grad = torch.randn(count, dtype=torch.float64) * 2.0**bits
        grads.append(grad.float() if value is None else torch.full((count,), value))
    found = norms_of(grads)
    assert found is not None
    norms, total = found
    exact = [float(grad.double().norm()) for grad in grads if grad is not None]
    assert norms == pytest.approx(exact, rel=2e-6, abs=0.0)
    assert total == pytest.approx(math.hypot(*exact), rel=2e-6, abs=0.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 40, 9_000, 9_999])
def test_one_value_that_is_not_finite_is_seen_wherever_it_is(bad: float, place: int) -> None:
    grad = torch.ones(10_000)
    grad[place] = bad
    found = norms_of([torch.ones(3), grad])
    assert found is not None
    assert repr(found[0][1]) == repr(gradient_norms([grad])[0][0])
    assert not math.isfinite(found[1])


NOT_PLAIN: dict[str, Callable[[], Tensor | None]] = {
    "float64": lambda: torch.ones(4, dtype=torch.float64),
    "bfloat16": lambda: torch.ones(4, dtype=torch.bfloat16),
    "strides": lambda: torch.ones(4, 6).t(),
    "expanded": lambda: torch.ones(1).expand(5),
    "sparse": lambda: torch.ones(3).to_sparse(),
    "empty": lambda: torch.empty(0),
    "meta": lambda: torch.empty(3, device="meta"),
    "subclass": lambda: nn.Parameter(torch.ones(3)),
    "none": lambda: None,
}


@pytest.mark.parametrize("make", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_what_is_not_plain_is_left_to_python(make: Callable[[], Tensor | None]) -> None:
    assert norms_of([torch.ones(3), make()]) is None


def test_a_value_is_that_of_one_plain_element() -> None:
    assert native.plain_value is not None
    assert native.plain_value(torch.tensor(2.5)) == 2.5
    assert native.plain_value(torch.tensor([[2.5]], requires_grad=True) * 2) == 5.0
    assert repr(native.plain_value(torch.tensor(math.nan))) == "nan"
    others = [torch.ones(2), torch.tensor(2), torch.tensor(2.0).double(), torch.empty(0), None, 3.0]
    assert [native.plain_value(each) for each in others] == [None] * len(others)  # pyright: ignore


def test_a_gradient_whose_memory_was_freed_is_not_read() -> None:
    grad = torch.ones(1000)
    grad.untyped_storage().resize_(0)
    assert norms_of([grad]) is None


def test_no_reference_is_kept_to_what_was_read() -> None:
    assert native.plain_norms is not None
    parameters = [parameter(torch.ones(5)), parameter(torch.ones(5, dtype=torch.float64))]
    before = [sys.getrefcount(each) for each in parameters]
    for count in (1, 2):
        for _ in range(100):
            native.plain_norms(parameters[:count])
    assert [sys.getrefcount(each) for each in parameters] == before
