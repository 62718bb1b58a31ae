"""How far the autopsy looks: the limits that decide what it says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gainstage.graph.autopsy.find import find_forward
from gainstage.graph.autopsy.singular_derivatives import singular
from gainstage.graph.nodes.walk import walk
from gainstage.graph.operations.table import op_of


def masked_above_softmax(steps: int) -> Tensor:
    """Return a softmax whose mask lies so many operations above it."""
    x = torch.rand(2, 4, requires_grad=True)
    x = x.masked_fill(torch.tensor([True, False, False, False]), -torch.inf)
    for _ in range(steps - 1):
        x = x * 2.0
    return x.softmax(-1)[:, 1:].sum()


@pytest.mark.parametrize(("steps", "is_near"), [(1, True), (4, True), (5, False)])
def test_a_mask_counts_up_to_four_operations_above_a_softmax(steps: int, is_near: bool) -> None:
    nodes = singular(walk([masked_above_softmax(steps)]))
    assert any(op_of(node) == "softmax" for node in nodes) is is_near


@pytest.mark.parametrize(
    ("bits", "is_brought_in"), [(18.0, False), (19.8, False), (20.3, True), (21.0, True)]
)
def test_a_target_has_brought_an_overflow_in_from_twenty_bits_above(
    bits: float, is_brought_in: bool
) -> None:
    own = torch.full((3,), 2.0**50, requires_grad=True)
    target = torch.full((3,), 2.0 ** (50 + bits))
    assert brought_in((own - target) ** 2) is is_brought_in


@pytest.mark.parametrize(("bits", "is_brought_in"), [(19.8, False), (20.3, True)])
def test_a_factor_has_brought_an_overflow_in_from_twenty_bits_above(
    bits: float, is_brought_in: bool
) -> None:
    own = torch.full((3,), 2.0**60, requires_grad=True)
    assert brought_in(own * torch.full((3,), 2.0 ** (60 + bits))) is is_brought_in


@pytest.mark.parametrize(("operations", "is_brought_in"), [(3, True), (4, False)])
def test_a_target_is_looked_for_up_to_four_operations_above_an_overflow(
    operations: int, is_brought_in: bool
) -> None:
    x = torch.ones(3, requires_grad=True) - torch.full((3,), 2.0**66)
    for _ in range(operations):
        x = x * torch.ones(3, requires_grad=True)  # which saves both of its arguments
    assert brought_in(x**2) is is_brought_in


def brought_in(result: Tensor) -> bool:
    """Return whether what overflows was brought in, by the autopsy."""
    culprit = find_forward([result.sum()])
    assert culprit is not None
    assert culprit.kind == "overflow"
    return culprit.evidence.brought_in


class Hidden(torch.autograd.Function):
    """An operation whose inside is not in the graph, and whose result is infinite."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.inf

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0]


@pytest.mark.parametrize(("bits", "reason"), [(42.0, "opaque"), (43.0, "overflow")])
def test_a_hidden_operation_overflows_if_three_of_its_arguments_multiplied_would(
    bits: float, reason: str
) -> None:
    x = torch.full((3,), 2.0**bits, requires_grad=True)
    culprit = find_forward([Hidden.apply(x).sum()])
    assert culprit is not None
    assert culprit.evidence.reason == reason
