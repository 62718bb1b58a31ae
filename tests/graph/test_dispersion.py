"""Which divisions are by a dispersion, however it is written."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gainstage.facts.fault import Dispersion
from gainstage.graph.autopsy.dispersion import divisor_of
from gainstage.graph.nodes.walk import walk
from gainstage.graph.operations.table import op_of

BY_DISPERSION: list[tuple[Dispersion, Callable[[Tensor], Tensor]]] = [
    ("deviation", lambda x: x / x.std(0)),
    ("deviation", lambda x: x / (x.std(1, keepdim=True) + 1e-8)),
    ("deviation", lambda x: x / x.var(0).sqrt()),
    ("deviation", lambda x: x / ((x - x.mean(0)) ** 2).mean(0).sqrt()),
    (
        "deviation",
        lambda x: (x - x.mean()) / (((x - x.mean()) ** 2).mean(1, keepdim=True) + 1e-6).sqrt(),
    ),
    ("norm", lambda x: x / x.norm(dim=1, keepdim=True)),
    ("deviation", lambda x: x / (x * x).sum(1, keepdim=True).clamp(min=0.0) ** 0.5),
    ("deviation", lambda x: x * torch.rsqrt(x.var(1, keepdim=True))),
]
BY_SOMETHING_ELSE: list[Callable[[Tensor], Tensor]] = [
    lambda x: x / x.sum(1, keepdim=True),
    lambda x: x / x.abs().max(),
    lambda x: x / 3.0,
    lambda x: 1.0 / x,
    lambda x: x / x.exp(),
    lambda x: x / (x - 1.0).sqrt(),
]


def divisors(function: Callable[[Tensor], Tensor]) -> list[Dispersion | None]:
    result = function(torch.rand(4, 6, dtype=torch.float64, requires_grad=True) + 2).sum()
    wanted = ("div", "rsqrt", "reciprocal")
    return [divisor_of(node) for node in walk([result]) if op_of(node) in wanted]


@pytest.mark.parametrize(("kind", "function"), BY_DISPERSION)
def test_a_division_by_a_dispersion_names_it(
    kind: Dispersion, function: Callable[[Tensor], Tensor]
) -> None:
    assert kind in divisors(function)


@pytest.mark.parametrize("function", BY_SOMETHING_ELSE)
def test_another_division_names_none(function: Callable[[Tensor], Tensor]) -> None:
    assert not any(divisors(function))
