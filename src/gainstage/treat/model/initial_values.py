"""Initial weights by what the graph does with them, over torch's own `nn.init`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gainstage.graph.weights.activations import Activation
from gainstage.graph.weights.uses import WeightUse

_CURVES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "selu": lambda z: 1.0507 * np.where(z > 0, z, 1.67326 * np.expm1(np.minimum(z, 0))),
    "gelu": lambda z: z * 0.5 * (1 + np.vectorize(math.erf)(z / math.sqrt(2))),
    "silu": lambda z: z / (1 + np.exp(-z)),
    "mish": lambda z: z * np.tanh(np.log1p(np.exp(z))),
    "softplus": lambda z: np.log1p(np.exp(z)),
}
"""Activations without a scale-free gain: right at unit variance only, so LSUV is their way."""


@functools.cache
def gain_of(activation: Activation) -> float:
    """Return by how much weights must be larger because of the activation that follows.

    √2 for ReLU and √(2 / (1 + slope²)) for a leaky one (He et al. 2015). 1 for tanh, sine and
    sigmoid, the critical point of mean field theory (Schoenholz et al. 2017): torch's 5/3 for tanh
    keeps the forward level and lets the backward one grow layer by layer. For the others
    1/√E f(z)², z ~ N(0, 1), by quadrature.
    """
    if activation.name == "relu":
        return math.sqrt(2.0)
    if activation.name == "leaky_relu":
        return math.sqrt(2.0 / (1.0 + activation.slope**2))
    curve = _CURVES.get(activation.name)
    if curve is None:
        return 1.0
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    mean_square = float(np.sum(weights * curve(nodes) ** 2) / math.sqrt(2 * math.pi))
    return 1.0 / math.sqrt(mean_square)


def automatic_kind(use: WeightUse) -> str:
    """Return the kind that keeps levels over many layers of this sort, forward and backward."""
    if use.activation.name in _CURVES:
        return "lsuv"
    if use.activation.name in ("relu", "leaky_relu") or use.is_convolution:
        return "he"
    return "orthogonal"


def draw(use: WeightUse, kind: str, mode: str, generator: torch.Generator) -> Tensor:
    """Return new values for a weight, in its own shape, in float32.

    Args:
        use: How the graph uses it.
        kind: `he`, `xavier`, `orthogonal`, `identity` or `lsuv` (orthogonal, to be measured).
        mode: `fan_in` keeps the forward level, `fan_out` the backward one; for `he`.
        generator: Draws from it and from no other.
    """
    if use.is_recurrent:
        return recurrent(use.parameter, kind, generator, inputs_first=use.inputs_first)
    fresh = torch.empty(use.parameter.shape, dtype=torch.float32, device=use.parameter.device)
    std = normal_std(use, kind, mode)
    if std is not None:
        return nn.init.normal_(fresh, 0, std, generator)
    matrices = [fresh] if fresh.dim() == 2 or use.is_convolution else list(fresh.flatten(0, -3))
    for matrix in matrices:
        if kind == "identity":
            _identity_(matrix)
        else:
            _orthogonal_(matrix, gain_of(use.activation), generator, use.inputs_first)
    return fresh


def normal_std(use: WeightUse, kind: str, mode: str) -> float | None:
    """Return the standard deviation of what `draw` draws from N(0, std), None if from no such."""
    if kind == "he":
        fan = use.fan_in if mode == "fan_in" else use.fan_out
        return gain_of(use.activation) / math.sqrt(fan)
    if kind == "xavier":
        return math.sqrt(2.0 / (use.fan_in + use.fan_out))
    return 1 / math.sqrt(use.fan_in) if use.parameter.dim() < 2 else None


def _orthogonal_(matrix: Tensor, gain: float, generator: torch.Generator, turned: bool) -> None:
    """Fill with an orthogonal matrix whose rows stay of length `gain` where it widens as well."""
    outputs, inputs = matrix.shape[0], matrix.numel() // matrix.shape[0]
    if turned:
        outputs, inputs = inputs, outputs
    nn.init.orthogonal_(matrix, gain * max(1.0, math.sqrt(outputs / inputs)), generator)


def _identity_(tensor: Tensor) -> None:
    """Fill with the identity, whatever follows: what a ReLU lets pass once, it lets pass always."""
    if tensor.dim() == 2:
        nn.init.eye_(tensor)
    elif 3 <= tensor.dim() <= 5:
        nn.init.dirac_(tensor)


def recurrent(
    weight: Tensor, kind: str, generator: torch.Generator, *, inputs_first: bool = False
) -> Tensor:
    """Return new recurrent weights: for each gate a matrix that keeps the length of the state.

    The identity for `identity` (Le, Jaitly & Hinton 2015), orthogonal for every other kind
    (Saxe et al. 2014). What is not made of square gates is drawn orthogonal as a whole.
    """
    fresh = torch.empty(weight.shape, dtype=torch.float32, device=weight.device)
    rows = fresh.T if inputs_first else fresh
    width = rows.shape[1]
    gates = rows.split(width) if rows.shape[0] % width == 0 else (rows,)
    for gate in gates:
        if kind == "identity":
            nn.init.eye_(gate)
        else:
            nn.init.orthogonal_(gate, 1.0, generator)
    return fresh


def input_gates(
    weight: Tensor, gates: int, kind: str, gain: float, generator: torch.Generator
) -> Tensor:
    """Return new input weights of a recurrent layer, (gates · hidden, inputs), gate by gate.

    He's scale for `he`, Xavier's for every other kind; the fans are those of one gate.
    """
    fresh = torch.empty(weight.shape, dtype=torch.float32, device=weight.device)
    inputs, outputs = weight.shape[1], weight.shape[0] // gates
    std = gain / math.sqrt(inputs) if kind == "he" else math.sqrt(2.0 / (inputs + outputs))
    return nn.init.normal_(fresh, 0, std, generator)
