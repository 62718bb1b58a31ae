"""A deep stack of layers, measured: levels forward and backward, in bits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gainstage.analysis.initial_scale import activation_named
from gainstage.lab.probed import ProbedLevels, read_levels

ACTIVATIONS = ("linear", "tanh", "relu", "gelu")
"""Those that the lab looks at."""


class LayerStack(nn.Module):
    """z_1 = W_1·x, z_l = W_l·φ(z_{l−1}); it returns φ of the last one."""

    def __init__(self, weights: Sequence[Tensor], activation: str) -> None:
        super().__init__()
        self.weights = nn.ParameterList(weights)
        self.activation = activation_named(activation)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the output for inputs of shape (batch, width)."""
        return self.activation(self.states(inputs)[-1])

    def states(self, inputs: Tensor, depth: int | None = None) -> list[Tensor]:
        """Return the pre-activations of the first layers, or of all."""
        states: list[Tensor] = []
        for weight in list(self.weights)[:depth]:
            fed = self.activation(states[-1]) if states else inputs
            states.append(fed @ weight.T)
        return states


def profile(stack: LayerStack, inputs: Tensor, depth: int | None = None) -> ProbedLevels:
    """Return the levels of the first layers' pre-activations, a random gradient at the end.

    Args:
        stack: Whose weights and inputs are of one dtype.
        inputs: Shape (batch, width).
        depth: How many layers; all where not given.
    """
    states = stack.states(inputs, depth)
    noise = torch.randn(states[-1].shape, generator=torch.Generator().manual_seed(1))
    return read_levels(states[-1], states, noise.to(inputs.dtype))


def gaussian(width: int, gain: float, generator: torch.Generator) -> Tensor:
    """Return a matrix of N(0, gain²/width)."""
    return torch.randn(width, width, generator=generator) * (gain / math.sqrt(width))


def orthogonal(width: int, gain: float, generator: torch.Generator) -> Tensor:
    """Return a random orthogonal matrix times a gain."""
    matrix = torch.empty(width, width)
    nn.init.orthogonal_(matrix, gain=gain, generator=generator)
    return matrix


MATRICES = {"gaussian": gaussian, "orthogonal": orthogonal}
