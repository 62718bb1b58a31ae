from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad

from gainstage.norms.replace import Clipped, replacements

NAMES = ("clip_grad_norm_", "clip_grad_value_", "_get_total_norm", "_clip_grads_with_norm_")
ORIGINALS: dict[str, Callable[..., Any]] = {name: getattr(clip_grad, name) for name in NAMES}


@pytest.fixture
def seen() -> list[Clipped]:
    return []


def fail(error: BaseException) -> None:
    raise AssertionError("a fault of gainstage") from error


@pytest.fixture
def ours(seen: list[Clipped]) -> dict[str, Any]:
    return replacements(ORIGINALS, seen.append, fail)


def parameters(scale: float, dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    torch.manual_seed(3)
    made = [nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in ((3,), (70, 65), (128,))]
    for each in made:
        each.grad = (torch.randn(each.shape) * scale).to(dtype)
    return made


def bits(tensors: list[torch.Tensor | None]) -> list[bytes]:
    whole = [t.detach().reshape(-1).view(torch.uint8) for t in tensors if t is not None]
    return [bytes(t.numpy().tobytes()) for t in whole]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e3, 1e25, math.inf])
@pytest.mark.parametrize("norm_type", [1, 2.0, 3, math.inf, "inf", 0.5])
@pytest.mark.parametrize("foreach", [None, True, False])
def test_norm_and_gradients_have_torchs_bits(
    ours: dict[str, Any],
    dtype: torch.dtype,
    scale: float,
    norm_type: float,
    foreach: bool | None,
) -> None:
    for max_norm in (1e-3, 1.0, 5, 1e9, math.inf):
        mine, theirs = parameters(scale, dtype), parameters(scale, dtype)
        got = ours["clip_grad_norm_"](mine, max_norm, norm_type, foreach=foreach)
        want = ORIGINALS["clip_grad_norm_"](theirs, max_norm, norm_type, foreach=foreach)
        assert got.dtype is want.dtype
        assert bits([got]) == bits([want])
        assert bits([p.grad for p in mine]) == bits([p.grad for p in theirs])


@pytest.mark.parametrize("value", [0.99, 1.0, 1.0 + 1e-7, 1.01, 1.02])
def test_a_norm_at_the_limit_has_torchs_bits(ours: dict[str, Any], value: float) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        mine, theirs = parameters(1.0, dtype), parameters(1.0, dtype)
        limit = value * float(ORIGINALS["_get_total_norm"]([p.grad for p in mine]))
        ours["clip_grad_norm_"](mine, limit)
        ORIGINALS["clip_grad_norm_"](theirs, limit)
        assert bits([p.grad for p in mine]) == bits([p.grad for p in theirs])


@pytest.mark.parametrize("max_norm", [0.1, 1e9])
def test_total_norm_then_scaling_has_torchs_bits(
    ours: dict[str, Any], seen: list[Clipped], max_norm: float
) -> None:
    mine, theirs = parameters(1.0), parameters(1.0)
    got = ours["_get_total_norm"]([p.grad for p in mine])
    want = ORIGINALS["_get_total_norm"]([p.grad for p in theirs])
    assert bits([got]) == bits([want])
    assert not seen, "a norm that was only read is no clipping"
    ours["_clip_grads_with_norm_"](mine, max_norm, got)
    ORIGINALS["_clip_grads_with_norm_"](theirs, max_norm, want)
    assert bits([p.grad for p in mine]) == bits([p.grad for p in theirs])
    assert seen[0].norms == pytest.approx([float(p.grad.norm()) for p in parameters(1.0)])  # type: ignore[union-attr]


def test_what_is_recorded_is_from_before_the_clip(
    ours: dict[str, Any], seen: list[Clipped]
) -> None:
    made = parameters(2.0)
    before = [float(p.grad.double().norm()) for p in made]  # type: ignore[union-attr]
    total = ours["clip_grad_norm_"](made, 1.0)
    assert seen[0].norms == pytest.approx(before, rel=1e-5)
    assert seen[0].max_norm == 1.0
    assert seen[0].coefficient == pytest.approx(1.0 / total.item(), rel=1e-4)
    assert seen[0].parameters == made


def test_gradients_beyond_torchs_range_are_recorded_as_they_are(
    ours: dict[str, Any], seen: list[Clipped]
) -> None:
    made = parameters(1e25)
    before = [float(p.grad.double().norm()) for p in made]  # type: ignore[union-attr]
    assert ours["clip_grad_norm_"](made, 1.0).item() == math.inf
    assert seen[0].norms == pytest.approx(before, rel=1e-5)


def test_clipping_by_value_is_recorded_and_done(ours: dict[str, Any], seen: list[Clipped]) -> None:
    mine, theirs = parameters(1.0), parameters(1.0)
    ours["clip_grad_value_"](mine, 0.5)
    ORIGINALS["clip_grad_value_"](theirs, 0.5)
    assert bits([p.grad for p in mine]) == bits([p.grad for p in theirs])
    assert seen[0].max_norm is None
    assert seen[0].norms == pytest.approx([float(p.grad.norm()) for p in parameters(1.0)])  # type: ignore[union-attr]


def test_errors_are_torchs(ours: dict[str, Any]) -> None:
    made = parameters(math.inf)
    with pytest.raises(RuntimeError, match="is non-finite, so it cannot be clipped"):
        ours["clip_grad_norm_"](made, 1.0, error_if_nonfinite=True)
    for arguments in ((), (made, "much"), (None, 1.0)):
        with pytest.raises((TypeError, ValueError)) as theirs:
            ORIGINALS["clip_grad_norm_"](*arguments)
        with pytest.raises(theirs.type):
            ours["clip_grad_norm_"](*arguments)


def test_an_error_of_our_own_leaves_the_work_to_torch_and_is_told_once_it_is_done() -> None:
    told: list[BaseException] = []

    def broken(clipped: Clipped) -> None:
        raise KeyError("ours")

    ours = replacements(ORIGINALS, broken, told.append)
    for name, rest in (("clip_grad_norm_", (0.5,)), ("clip_grad_value_", (0.01,))):
        mine, theirs = parameters(1.0), parameters(1.0)
        ours[name](iter(mine), *rest)
        ORIGINALS[name](theirs, *rest)
        assert bits([p.grad for p in mine]) == bits([p.grad for p in theirs])
        assert type(told.pop()) is KeyError


def test_an_empty_generator_is_warned_of_as_torch_does(ours: dict[str, Any]) -> None:
    def nothing() -> Iterator[nn.Parameter]:
        yield from ()

    with pytest.warns(UserWarning, match="empty generator"):
        assert ours["clip_grad_norm_"](nothing(), 1.0).item() == 0.0


def test_sparse_gradients_and_partial_ones_go_through(
    ours: dict[str, Any], seen: list[Clipped]
) -> None:
    made = parameters(1.0)
    made[1].grad = None
    ours["clip_grad_norm_"](made, 1.0)
    assert [id(p) for p in seen[0].parameters] == [id(made[0]), id(made[2])]
    assert seen[0].norms is not None
    assert len(seen[0].norms) == 2


def test_no_gradient_is_kept_alive_by_a_norm_that_was_read(ours: dict[str, Any]) -> None:
    import weakref

    made = parameters(1.0)
    kept = weakref.ref(made[0].grad)
    total = ours["_get_total_norm"]([p.grad for p in made])
    for each in made:
        each.grad = None
    assert kept() is None
    assert total.item() > 0
