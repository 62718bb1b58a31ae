"""The adding task: a sequence of numbers, two of them marked; the answer is the sum of those two.

Who ignores the marks and always says 1 has a mean squared error of 1/6. Source: Hochreiter and
Schmidhuber (1997), Neural Computation 9, 1735-1780.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gainstage.norms.clip import clip_grad_norm_

BASELINE = 1 / 6
"""Mean squared error of always answering 1."""
CELLS = ("rnn", "gru", "lstm")
HIDDEN = 32


def draw(batch: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return inputs, (batch, length, 2), and sums, (batch,). One mark lies in each half."""
    numbers = torch.rand(batch, length, generator=generator)
    half = max(1, length // 2)
    first = torch.randint(half, (batch, 1), generator=generator)
    second = half + torch.randint(max(1, length - half), (batch, 1), generator=generator)
    marks = torch.zeros(batch, length).scatter_(1, torch.cat([first, second], 1), 1.0)
    return torch.stack([numbers, marks], 2), (numbers * marks).sum(1)


class Adder(nn.Module):
    """A recurrent layer whose last state is read out."""

    def __init__(self, cell: str) -> None:
        super().__init__()
        kind = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[cell]
        self.recurrent = kind(2, HIDDEN, batch_first=True)
        self.readout = nn.Linear(HIDDEN, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the answers, (batch,)."""
        return self.readout(self.recurrent(inputs)[0][:, -1]).squeeze(1)


def train(model: Adder, length: int, steps: int, max_norm: float) -> tuple[float, float]:
    """Train on the adding task with Adam and clipping by the global norm.

    Returns:
        The share of the steps that were clipped, and the mean squared error over the last tenth.
    """
    generator = torch.Generator().manual_seed(length)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses: list[float] = []
    clipped = 0
    for _ in range(steps):
        inputs, sums = draw(32, length, generator)
        loss = nn.functional.mse_loss(model(inputs), sums)
        optimizer.zero_grad()
        loss.backward()
        clipped += float(clip_grad_norm_(model.parameters(), max_norm)) > max_norm
        optimizer.step()
        losses.append(loss.item())
    last = losses[-max(1, steps // 10) :]
    return clipped / steps, sum(last) / len(last)
