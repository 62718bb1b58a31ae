"""How far the autopsy looks: the limits that decide what it says."""

from __future__ import annotations

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
    own = torch.full((3,), 2.0**44, requires_grad=True)
    target = torch.full((3,), 2.0 ** (44 + bits))
    culprit = find_forward([((own - target) ** 2 * 2.0**8).sum()])
    assert culprit is not None
    assert culprit.kind == "overflow"
    assert culprit.evidence.brought_in is is_brought_in
