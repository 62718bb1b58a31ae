"""The chain of a fault: the operations from the first wrong one to the loss."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import gainstage


def train(folder: Path, operations: int) -> tuple[str, ...]:
    """Return the operations of the chain of a log(0) with so many from it to the loss."""
    model = nn.Linear(3, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gainstage.watch(model, optimizer, out=folder) as watch:
        for step in range(4):
            optimizer.zero_grad()
            x = (model(torch.ones(2, 3)) * 0.0 + (step != 3)).log()
            for number in range(operations - 2):
                x = x.abs() if number % 2 else x.neg()
            x.sum().backward()
            optimizer.step()
    assert watch.findings.verdict == "failed"
    (fault, *_) = gainstage.load(folder).faults()
    return tuple(site.op for site in fault.chain)


@pytest.mark.parametrize("operations", [4, 12])
def test_a_chain_of_twelve_is_kept_whole(operations: int, tmp_path: Path) -> None:
    chain = train(tmp_path / "run", operations)
    assert len(chain) == operations
    assert (chain[0], chain[-1]) == ("log", "sum")


@pytest.mark.parametrize("operations", [13, 19])
def test_of_a_longer_chain_the_middle_is_left_out(operations: int, tmp_path: Path) -> None:
    chain = train(tmp_path / "run", operations)
    assert chain[:9] == ("log", *["neg", "abs"] * 4)
    assert chain[9:] == ("abs", "neg", "sum")
