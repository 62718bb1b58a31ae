"""A deep stack of square layers, measured: levels forward and backward, in bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gainstage.lab.levels import level_bits, slope_bits

Activation = Callable[[Tensor], Tensor]
ACTIVATIONS: dict[str, Activation] = {
    "linear": lambda x: x,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": F.gelu,
}


@dataclass(frozen=True, slots=True)
class Profile:
    """Levels of one forward and backward pass."""

    forward_bits: tuple[float, ...]
    """Level of each layer's pre-activation, from the input on."""
    delta_bits: tuple[float, ...]
    """Level of the gradient at the same places, from the output back."""
    peak: tuple[float, ...]
    """Largest magnitude of each pre-activation; inf where it overflowed."""

    @property
    def forward_slope(self) -> float:
        """Bits a layer on the way forward."""
        return slope_bits(self.forward_bits)

    @property
    def backward_slope(self) -> float:
        """Bits a layer on the way back; nan where the way forward has overflowed."""
        if not all(peak < math.inf for peak in self.peak):
            return math.nan
        return slope_bits(self.delta_bits)


def profile(weights: Sequence[Tensor], inputs: Tensor, activation: str) -> Profile:
    """Return the levels of z_l = W_l·φ(z_{l−1}), z_1 = W_1·x, with a random gradient at the end.

    Args:
        weights: Square matrices, all of one dtype, applied in turn.
        inputs: Shape (batch, width).
        activation: A name of `ACTIVATIONS`.
    """
    act = ACTIVATIONS[activation]
    states: list[Tensor] = []
    current = inputs.detach().requires_grad_()
    for weight in weights:
        current = (act(current) if states else current) @ weight.T
        current.retain_grad()
        states.append(current)
    generator = torch.Generator().manual_seed(1)
    shape = states[-1].shape
    states[-1].backward(torch.randn(shape, generator=generator).to(inputs.dtype))
    grads = [state.grad for state in states[::-1] if state.grad is not None]
    return Profile(
        tuple(level_bits(state) for state in states),
        tuple(level_bits(grad) for grad in grads),
        tuple(float(state.detach().abs().max()) for state in states),
    )


def gaussian(width: int, gain: float, generator: torch.Generator) -> Tensor:
    """Return a matrix of N(0, gain²/width)."""
    return torch.randn(width, width, generator=generator) * (gain / math.sqrt(width))


def orthogonal(width: int, gain: float, generator: torch.Generator) -> Tensor:
    """Return a random orthogonal matrix times a gain."""
    matrix = torch.empty(width, width)
    torch.nn.init.orthogonal_(matrix, gain=gain, generator=generator)
    return matrix


MATRICES = {"gaussian": gaussian, "orthogonal": orthogonal}
