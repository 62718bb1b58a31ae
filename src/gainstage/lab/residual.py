"""Residual blocks: what the stream gains where every branch keeps the level."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gainstage.analysis.gain import gain_bits, level_bits
from gainstage.treat.model.initialise import initialise_


@dataclass(frozen=True, slots=True)
class Grown:
    """What a stack of residual blocks adds to the level of its input."""

    kind: str
    blocks: int
    gained_bits: float


class _Block(nn.Module):
    """x + W2·relu(W1·x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, width, bias=False)
        self.down = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.relu(self.up(x)))


def grown(kind: str, blocks: int, width: int, seed: int) -> Grown:
    """Return what a stream gains over some blocks.

    Args:
        kind: As `initialise_` knows it.
        blocks: How many.
        width: Of the stream and of the branches.
        seed: Of weights and inputs.
    """
    inputs = torch.randn(64, width, generator=torch.Generator().manual_seed(seed + 1))
    with torch.random.fork_rng(devices=[]):
        stack = nn.Sequential(
            nn.Linear(width, width, bias=False), *(_Block(width) for _ in range(blocks))
        )
    initialise_(stack, inputs, kind=kind, seed=seed)
    with torch.no_grad():
        stream = stack[0](inputs)
        return Grown(kind, blocks, gain_bits(level_bits(stream), level_bits(stack[1:](stream))))
