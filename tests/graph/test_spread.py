"""Which divisions are by a spread, however it is written."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gainstage.graph.autopsy.spread import divides_by_spread
from gainstage.graph.nodes.walk import walk
from gainstage.graph.operations.table import op_of

BY_SPREAD: list[Callable[[Tensor], Tensor]] = [
    lambda x: x / x.std(0),
    lambda x: x / (x.std(1, keepdim=True) + 1e-8),
    lambda x: x / x.var(0).sqrt(),
    lambda x: x / ((x - x.mean(0)) ** 2).mean(0).sqrt(),
    lambda x: (x - x.mean()) / (((x - x.mean()) ** 2).mean(1, keepdim=True) + 1e-6).sqrt(),
    lambda x: x / x.norm(dim=1, keepdim=True),
    lambda x: x / (x * x).sum(1, keepdim=True).clamp(min=0.0) ** 0.5,
    lambda x: x * torch.rsqrt(x.var(1, keepdim=True)),
]
BY_SOMETHING_ELSE: list[Callable[[Tensor], Tensor]] = [
    lambda x: x / x.sum(1, keepdim=True),
    lambda x: x / x.abs().max(),
    lambda x: x / 3.0,
    lambda x: 1.0 / x,
    lambda x: x / x.exp(),
    lambda x: x / (x - 1.0).sqrt(),
]


def divisions(function: Callable[[Tensor], Tensor]) -> list[bool]:
    result = function(torch.rand(4, 6, dtype=torch.float64, requires_grad=True) + 2).sum()
    wanted = ("div", "rsqrt", "reciprocal")
    return [divides_by_spread(node) for node in walk([result]) if op_of(node) in wanted]


@pytest.mark.parametrize("function", BY_SPREAD)
def test_a_division_by_a_spread_is_one(function: Callable[[Tensor], Tensor]) -> None:
    assert any(divisions(function))


@pytest.mark.parametrize("function", BY_SOMETHING_ELSE)
def test_another_division_is_none(function: Callable[[Tensor], Tensor]) -> None:
    assert not any(divisions(function))
