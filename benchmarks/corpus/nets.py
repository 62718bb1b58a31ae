"""Small networks and tasks that families are put together from."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}
Batches = Callable[[int], tuple[Tensor, Tensor]]


def mlp(
    sizes: Sequence[int], activation: str = "relu", gain: float = 1.0, norm: bool = False
) -> nn.Sequential:
    """Return a multilayer perceptron with weights of `gain` times He's or Xavier's scale."""
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        linear = nn.Linear(n_in, n_out)
        scale = 2.0 if activation != "tanh" and i < len(sizes) - 2 else 1.0
        nn.init.normal_(linear.weight, std=gain * (scale / n_in) ** 0.5)
        nn.init.zeros_(linear.bias)
        layers.append(linear)
        if i < len(sizes) - 2:
            layers += [nn.LayerNorm(n_out)] if norm else []
            layers.append(ACTIVATIONS[activation]())
    return nn.Sequential(*layers)


class Residual(nn.Module):
    """A stack of residual blocks x + a·f(x), with or without a norm before each branch."""

    def __init__(self, width: int, depth: int, out: int, scale: float, norm: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(mlp([width, 2 * width, width]) for _ in range(depth))
        self.norms = nn.ModuleList(
            nn.LayerNorm(width) if norm else nn.Identity() for _ in range(depth + 1)
        )
        self.scale = scale
        self.head = nn.Linear(width, out)

    def forward(self, x: Tensor) -> Tensor:
        for block, norm in zip(self.blocks, self.norms, strict=False):
            x = x + self.scale * block(norm(x))
        return self.head(self.norms[-1](x))


class Recurrent(nn.Module):
    """A recurrent network whose recurrent weights are orthogonal times a gain."""

    def __init__(self, n_in: int, hidden: int, out: int, kind: str, gain: float) -> None:
        super().__init__()
        if kind == "gru":
            self.cell: nn.Module = nn.GRU(n_in, hidden, batch_first=True)
        else:
            self.cell = nn.RNN(n_in, hidden, nonlinearity=kind, batch_first=True)
        for gate in self.cell.weight_hh_l0.detach().split(hidden):
            nn.init.orthogonal_(gate, gain=gain)
        self.head = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1])


def classification(
    draw: random.Random,
    batches: torch.Generator,
    *,
    features: int = 16,
    classes: int = 5,
    batch: int = 32,
    spread: float = 1.0,
    label_noise: float = 0.0,
) -> Batches:
    """Return a task of Gaussian clusters; `label_noise` is the share of labels drawn at random."""
    centres = torch.randn(classes, features, generator=batches) * draw.uniform(0.7, 1.5)

    def next_batch(step: int) -> tuple[Tensor, Tensor]:
        labels = torch.randint(classes, (batch,), generator=batches)
        x = centres[labels] + spread * torch.randn(batch, features, generator=batches)
        if label_noise:
            wrong = torch.rand(batch, generator=batches) < label_noise
            other = torch.randint(classes, (batch,), generator=batches)
            labels = torch.where(wrong, other, labels)
        return x, labels

    return next_batch


def regression(
    draw: random.Random,
    batches: torch.Generator,
    *,
    features: int = 16,
    outputs: int = 1,
    batch: int = 32,
    scale: float = 1.0,
    noise: float = 0.1,
) -> Batches:
    """Return a task whose targets are a random network's outputs, in units of `scale`."""
    first = torch.randn(features, 8, generator=batches) / features**0.5
    second = torch.randn(8, outputs, generator=batches) / 8**0.5

    def next_batch(step: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(batch, features, generator=batches)
        y = torch.tanh(2 * x @ first) @ second
        return x, scale * (y + noise * torch.randn(batch, outputs, generator=batches))

    return next_batch


def sequences(
    draw: random.Random, batches: torch.Generator, *, length: int, batch: int = 16
) -> Batches:
    """Return the adding problem: two numbers of a sequence are marked, the target is their sum."""

    def next_batch(step: int) -> tuple[Tensor, Tensor]:
        values = torch.rand(batch, length, generator=batches)
        marks = torch.zeros(batch, length)
        marks.scatter_(1, torch.rand(batch, length, generator=batches).argsort(1)[:, :2], 1.0)
        return torch.stack([values, marks], -1), (values * marks).sum(1, keepdim=True)

    return next_batch


def fit(model: nn.Module, batches: Batches, reduction: str = "mean") -> Callable[[int], Tensor]:
    """Return the loss of a step: cross entropy for labels, squared error for numbers."""

    def loss_of(step: int) -> Tensor:
        x, y = batches(step)
        if y.dtype == torch.int64:
            return F.cross_entropy(model(x), y, reduction=reduction)
        return F.mse_loss(model(x), y, reduction=reduction)

    return loss_of
