"""Initial weights by name: one row each, added in `INITS` alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gainstage.lab.deep_net import ACTIVATIONS

_GAIN = {"linear": 1.0, "tanh": 1.0, "relu": math.sqrt(2.0), "gelu": math.sqrt(2.0)}
"""What undoes the activation's loss of power. GELU is near ReLU; it has no exact one."""

Initialiser = Callable[[Tensor, str, torch.Generator], None]


def normal_01(weight: Tensor, activation: str, generator: torch.Generator) -> None:
    """Draw from N(0, 1), whatever the width."""
    nn.init.normal_(weight, generator=generator)


def he(weight: Tensor, activation: str, generator: torch.Generator) -> None:
    """Draw from N(0, 2/n_in). Source: He et al. (2015), arXiv:1502.01852."""
    nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)


def xavier(weight: Tensor, activation: str, generator: torch.Generator) -> None:
    """Draw from N(0, 2/(n_in + n_out)). Source: Glorot and Bengio (2010)."""
    nn.init.xavier_normal_(weight, generator=generator)


def orthogonal(weight: Tensor, activation: str, generator: torch.Generator) -> None:
    """Take a random orthogonal matrix times the activation's gain. Source: Saxe et al. (2014)."""
    nn.init.orthogonal_(weight, gain=_GAIN[activation], generator=generator)


INITS: dict[str, Initialiser] = {
    "N(0, 1)": normal_01,
    "He": he,
    "Xavier": xavier,
    "orthogonal": orthogonal,
}


def initial_weights(
    name: str, activation: str, depth: int, width: int, inputs: Tensor, seed: int
) -> list[Tensor]:
    """Return the weights of a stack; `LSUV` is measured on the inputs, layer by layer.

    LSUV: orthogonal, then divided by the measured standard deviation of each layer's output.
    Source: Mishkin and Matas (2016), arXiv:1511.06422.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.empty(width, width) for _ in range(depth)]
    for weight in weights:
        INITS["orthogonal" if name == "LSUV" else name](weight, activation, generator)
    if name == "LSUV":
        state = inputs
        for layer, weight in enumerate(weights):
            fed = ACTIVATIONS[activation](state) if layer else state
            state = fed @ weight.T
            spread = float(state.std())
            weight /= spread
            state = state / spread
    return weights


NAMES = (*INITS, "LSUV")
