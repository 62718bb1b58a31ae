from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gainstage import ConfigError, clip_grad_norm_
from gainstage.norms.clip import clip_coefficient


def with_grads(*grads: torch.Tensor) -> list[nn.Parameter]:
    parameters = [nn.Parameter(torch.zeros_like(grad)) for grad in grads]
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = grad.clone()
    return parameters


def test_the_textbook_example_is_clipped_to_its_numbers() -> None:
    (weight,) = with_grads(torch.tensor([16.0, 12.0, -8.0]))
    assert clip_grad_norm_([weight], 5.0).item() == pytest.approx(21.5407, abs=1e-4)
    assert weight.grad is not None
    assert weight.grad.tolist() == pytest.approx([3.7139, 2.7854, -1.8570], abs=1e-4)


def test_a_gradient_beyond_the_range_of_torchs_norm_is_clipped_and_not_erased() -> None:
    grad = torch.tensor([3e25, 4e25])
    (ours,), (theirs,) = with_grads(grad), with_grads(grad)
    assert torch.nn.utils.clip_grad_norm_([theirs], 1.0).item() == math.inf
    assert clip_grad_norm_([ours], 1.0).item() == pytest.approx(5e25)
    assert theirs.grad is not None
    assert theirs.grad.tolist() == [0.0, 0.0]
    assert ours.grad is not None
    assert ours.grad.tolist() == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize("max_norm", [1e-6, 1e-3, 1.0])
@pytest.mark.parametrize("value", [1e-38, 1e-19, 1.0, 1e19, 3e38])
def test_the_norm_after_clipping_is_the_limit(value: float, max_norm: float) -> None:
    parameters = with_grads(*(torch.full((n,), value) for n in (3, 70, 5000)))
    before = clip_grad_norm_(parameters, max_norm)
    assert before.item() == pytest.approx(value * math.sqrt(5073), rel=1e-6)
    after = clip_grad_norm_(parameters, math.inf).item()
    expected = before.item() * clip_coefficient(max_norm, before.item())
    assert after == pytest.approx(expected, rel=1e-5, abs=1e-44)


def test_a_norm_too_large_for_float32_comes_back_in_float64() -> None:
    norm = clip_grad_norm_(with_grads(torch.full((100,), 3e38)), math.inf)
    assert norm.dtype is torch.float64
    assert norm.item() == pytest.approx(3e39, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("foreach", [None, True, False])
@pytest.mark.parametrize("norm_type", [1, 2.0, 3.5, math.inf, "inf"])
@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_where_torch_is_right_the_result_is_torchs(
    dtype: torch.dtype, foreach: bool | None, norm_type: float, max_norm: float
) -> None:
    torch.manual_seed(1)
    grads = [torch.randn(shape).to(dtype) for shape in ((3, 4), (7,), (2, 3, 5))]
    ours, theirs = with_grads(*grads), with_grads(*grads)
    got = clip_grad_norm_(ours, max_norm, norm_type, foreach=foreach)
    want = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type, foreach=foreach)
    coarse = {torch.bfloat16: 2e-2, torch.float16: 2e-3}.get(dtype, 2e-6)
    assert got.item() == pytest.approx(want.item(), rel=coarse)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=coarse, atol=coarse)


def test_an_idle_clip_writes_nothing() -> None:
    parameters = with_grads(torch.randn(10), torch.randn(3))
    versions = [p.grad._version for p in parameters if p.grad is not None]
    clip_grad_norm_(parameters, 1e9)
    clip_grad_norm_(parameters, math.inf)
    assert [p.grad._version for p in parameters if p.grad is not None] == versions


def test_reading_an_infinite_norm_leaves_the_evidence() -> None:
    (weight,) = with_grads(torch.tensor([1.0, math.inf]))
    assert clip_grad_norm_([weight], math.inf).item() == math.inf
    assert weight.grad is not None
    assert weight.grad.tolist() == [1.0, math.inf]


def test_a_nonfinite_norm_is_an_error_if_asked_for() -> None:
    (weight,) = with_grads(torch.tensor([1.0, math.nan]))
    with pytest.raises(RuntimeError, match=r"total norm of order 2.0 .* is nan"):
        clip_grad_norm_([weight], 1.0, error_if_nonfinite=True)
    assert weight.grad is not None
    assert weight.grad[0] == 1.0


def test_one_tensor_a_generator_and_nothing_are_taken() -> None:
    (weight,) = with_grads(torch.tensor([3.0, 4.0]))
    assert clip_grad_norm_(weight, 1.0).item() == 5.0

    def some() -> Iterator[nn.Parameter]:
        yield from with_grads(torch.tensor([6.0, 8.0]))

    assert clip_grad_norm_(some(), 1.0).item() == 10.0
    assert clip_grad_norm_([], 1.0).item() == 0.0
    assert clip_grad_norm_([nn.Parameter(torch.ones(2))], 1.0).item() == 0.0


def test_mixed_dtypes_are_clipped_together() -> None:
    parameters = with_grads(torch.tensor([3.0]), torch.tensor([4.0], dtype=torch.bfloat16))
    assert clip_grad_norm_(parameters, 1.0).item() == pytest.approx(5.0)
    values = [p.grad.item() for p in parameters if p.grad is not None]
    assert values == pytest.approx([0.6, 0.8], rel=4e-3)


def test_sparse_gradients_go_to_torch() -> None:
    table = nn.Embedding(10, 4, sparse=True)
    table(torch.tensor([1, 2, 2])).sum().backward()
    with pytest.raises((RuntimeError, NotImplementedError)) as torchs:
        torch.nn.utils.clip_grad_norm_(table.parameters(), 1.0)
    with pytest.raises(torchs.type):
        clip_grad_norm_(table.parameters(), 1.0)


@pytest.mark.parametrize("max_norm", [-1.0, math.nan])
def test_a_limit_that_cannot_be_is_refused(max_norm: float) -> None:
    with pytest.raises(ConfigError, match="max_norm must be 0 or more, got"):
        clip_grad_norm_(with_grads(torch.ones(2)), max_norm)


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20),
    st.floats(1e-3, 1e3),
)
def test_clipping_keeps_the_direction_and_is_idempotent(values: list[float], limit: float) -> None:
    grad = torch.tensor(values, dtype=torch.float32)
    (weight,) = with_grads(grad)
    norm = clip_grad_norm_([weight], limit).item()
    assert weight.grad is not None
    once = weight.grad.clone()
    torch.testing.assert_close(once, grad * clip_coefficient(limit, norm), rtol=1e-5, atol=1e-38)
    clip_grad_norm_([weight], limit)
    # torch's 1e-6 beside the norm makes a second clip take a trifle more.
    torch.testing.assert_close(weight.grad, once, rtol=1e-5 + 2e-6 / limit, atol=1e-38)
