"""How a weight was initialised, what would suit it, and what a layer does to deltas."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn import functional

from gainstage.analysis.gain import level_bits
from gainstage.errors import ConfigError

Shape = Literal["normal", "uniform", "orthogonal", "constant", "other", "unknown"]

_ENOUGH: Final = 128
"""With fewer elements neither scale nor shape of a distribution can be told."""
_SIGMAS: Final = 4.0
"""How many standard errors a measured value may lie from the rule's: 1 in 16,000 by chance."""
_ORTHOGONAL: Final = 1e-3
_KURTOSIS: Final = {"normal": (3.0, 24.0), "uniform": (1.8, 1.317)}
"""Fourth standardised moment, and n times the variance of its estimate."""
_ACTIVATIONS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "linear": lambda z: z,
    "relu": functional.relu,
    "leaky_relu": functional.leaky_relu,
    "hardtanh": functional.hardtanh,
    "elu": functional.elu,
    "selu": functional.selu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "mish": functional.mish,
    "softplus": functional.softplus,
    "sin": torch.sin,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


@dataclass(frozen=True, slots=True)
class InitialScale:
    """What a weight looks like, beside what would keep the level of a layer's output."""

    shape: Shape
    """`unknown` where there are too few elements to tell."""
    rms: float
    rules: tuple[str, ...]
    """Every named rule that would give these values, such as `he_normal`; several where they agree
    for this shape, none where none fits."""
    expected_rms: float
    """What suits the activation: gain / √fan_in."""
    excess_bits: float
    """log2(rms / expected_rms): what each layer adds to the level."""


def initial_scale(weight: Tensor, activation: str = "relu") -> InitialScale:
    """Return how a weight was initialised. Looks once at all elements; waits for the device.

    Args:
        weight: Of shape (out, in, ...), as of linear and convolutional layers, before training.
        activation: Of the layer; see `activation_gain`.

    Raises:
        ConfigError: If the weight has fewer than two dimensions, or the activation is not known.
    """
    fan_in, _ = fans(weight)
    expected = activation_gain(activation) / math.sqrt(fan_in)
    values = weight.detach().cpu().double().flatten(1)
    level = level_bits(values)
    rms = 2.0**level
    shape = _shape_of(values, rms)
    return InitialScale(
        shape=shape,
        rms=rms,
        rules=tuple(_fitting(values, shape, weight)),
        expected_rms=expected,
        excess_bits=level - math.log2(expected),
    )


def fans(weight: Tensor) -> tuple[int, int]:
    """Return fan-in and fan-out of a weight of shape (out, in, ...).

    Raises:
        ConfigError: If it has fewer than two dimensions.
    """
    if weight.dim() < 2:
        raise ConfigError(f"a weight needs two dimensions or more, got shape {tuple(weight.shape)}")
    receptive = math.prod(weight.shape[2:])
    return weight.shape[1] * receptive, weight.shape[0] * receptive


def activation_gain(activation: str) -> float:
    """Return g, so that weights of standard deviation g / √fan_in keep the level of activations.

    g = 1 / √E[φ(z)²] for z of the standard normal distribution: √2 for relu (He et al. 2015), 1 for
    linear; 1.59 for tanh, where torch's `calculate_gain` says 5/3.

    Raises:
        ConfigError: If the activation is not known.
    """
    function = activation_named(activation)
    return gaussian_mean(lambda z: function(z).square()) ** -0.5


def activation_named(name: str) -> Callable[[Tensor], Tensor]:
    """Return the function of an activation, by torch's name or `linear`.

    Raises:
        ConfigError: If it is not known.
    """
    if name not in _ACTIVATIONS:
        known = ", ".join(sorted(_ACTIVATIONS))
        raise ConfigError(f"activation must be one of {known}, got {name!r}")
    return _ACTIVATIONS[name]


def gaussian_mean(function: Callable[[Tensor], Tensor]) -> float:
    """Return E f(z) for z of the standard normal distribution, to 1e-6 for what activations do.

    Args:
        function: Elementwise, of float64. It may have a corner or a jump at 0, and nowhere else.
    """
    nodes, weights = _quadrature()
    return float(function(nodes) @ weights)


@cache
def _quadrature() -> tuple[Tensor, Tensor]:
    """Return nodes and weights of the trapezoid rule on either side of 0, without 0 itself."""
    half = torch.linspace(1e-9, 12, 2401, dtype=torch.float64)
    density = torch.exp(-half.square() / 2) * (half[1] - half[0]) / math.sqrt(2 * math.pi)
    density[0] /= 2
    return torch.cat([half, -half]), torch.cat([density, density])


def mean_field_chi(layer: Callable[[Tensor], Tensor], x: Tensor, *, seed: int = 0) -> float:
    """Return χ of a layer, the factor by which it multiplies the mean square of a delta.

    χ = E‖Jᵀv‖² / E‖v‖² for a random v, so ‖J‖²_F / n over n outputs; 1 is critical, above it
    deltas explode with depth. One vjp: the estimate's relative error is about √(2 / n) for a batch
    of one. Source: Schoenholz et al. (2017), arXiv 1611.01232.

    Args:
        layer: Differentiable, weight and activation together.
        x: A batch of its inputs.
        seed: Of v, drawn from a generator of its own.
    """
    with torch.enable_grad():
        before = x.detach().requires_grad_()
        after = layer(before)
        generator = torch.Generator().manual_seed(seed)
        v = torch.randn(after.shape, generator=generator, dtype=torch.float64).to(after)
        if not after.requires_grad:
            return 0.0
        (back,) = torch.autograd.grad(after, before, v, allow_unused=True, materialize_grads=True)
    sizes = math.log2(back.numel() / v.numel())
    return 2.0 ** (2 * (level_bits(back) - level_bits(v)) + sizes)


def _shape_of(values: Tensor, rms: float) -> Shape:
    low, high = (float(bound) for bound in torch.aminmax(values))
    if low == high:
        return "constant"
    if not math.isfinite(rms):
        return "other"
    if _orthogonal_scale(values) is not None:
        return "orthogonal"
    count = values.numel()
    if count < _ENOUGH:
        return "unknown"
    spread, mean = float(values.std()), float(values.mean())
    kurtosis = float(((values - mean) / spread).pow(4).mean())
    # A uniform distribution ends 1.73 standard deviations out; of a normal one 8% lie beyond.
    end = math.sqrt(3) * spread * (1 + _SIGMAS * _relative_error("uniform", count))
    if (high - low) / 2 <= end and _is_kurtosis("uniform", kurtosis, count):
        return "uniform"
    return "normal" if _is_kurtosis("normal", kurtosis, count) else "other"


def _fitting(values: Tensor, shape: Shape, weight: Tensor) -> Iterator[str]:
    """Yield the names of the rules that give such values."""
    if shape == "constant":
        yield "zeros" if not bool(values.any()) else "constant"
    elif shape == "orthogonal":
        scale = _orthogonal_scale(values)
        unit = scale is not None and abs(scale - 1) < _ORTHOGONAL
        yield "orthogonal" if unit else "orthogonal_scaled"
    elif shape in _KURTOSIS:
        spread, mean = float(values.std()), float(values.mean())
        error = _SIGMAS * _relative_error(shape, values.numel())
        off_mean = _SIGMAS * spread / math.sqrt(values.numel())
        for name, (middle, deviation) in _rules(shape, weight).items():
            if abs(spread / deviation - 1) <= error and abs(mean - middle) <= off_mean:
                yield name


def _rules(shape: Shape, weight: Tensor) -> dict[str, tuple[float, float]]:
    """Return mean and standard deviation of what each rule gives; uniform ones end at √3 of it."""
    fan_in, fan_out = fans(weight)
    he, he_out = math.sqrt(2 / fan_in), math.sqrt(2 / fan_out)
    xavier, lecun = math.sqrt(2 / (fan_in + fan_out)), math.sqrt(1 / fan_in)
    if shape == "normal":
        rules = {"standard_normal": 1.0, "he_normal": he, "he_normal_fan_out": he_out}
        rules |= {"xavier_normal": xavier, "lecun_normal": lecun}
        return {name: (0.0, deviation) for name, deviation in rules.items()}
    rules = {"he_uniform": he, "he_uniform_fan_out": he_out, "xavier_uniform": xavier}
    rules |= {"lecun_uniform": lecun, "torch_linear": math.sqrt(1 / (3 * fan_in))}
    # nn.RNN, GRU and LSTM stack 1, 3 and 4 matrices, each within ±1/√hidden.
    rules |= {
        f"torch_{name}": math.sqrt(gates / (3 * fan_out))
        for name, gates in (("rnn", 1), ("gru", 3), ("lstm", 4))
        if weight.dim() == 2 and fan_out % gates == 0
    }
    centred = {name: (0.0, deviation) for name, deviation in rules.items()}
    return centred | {"standard_uniform": (0.5, math.sqrt(1 / 12))}


def _orthogonal_scale(values: Tensor) -> float | None:
    """Return by how much a matrix with orthogonal rows or columns scales; None if it has none."""
    matrix = values if values.shape[0] <= values.shape[1] else values.t()
    products = matrix @ matrix.t()
    squared = float(products.diagonal().mean())
    off = (products - squared * torch.eye(len(products), dtype=products.dtype)).abs().amax()
    alone = matrix.shape[0] == 1
    return None if alone or float(off) > _ORTHOGONAL * squared else math.sqrt(squared)


def _is_kurtosis(shape: str, kurtosis: float, count: int) -> bool:
    expected, variance = _KURTOSIS[shape]
    return abs(kurtosis - expected) <= _SIGMAS * math.sqrt(variance / count)


def _relative_error(shape: str, count: int) -> float:
    """Return the relative standard error of a measured standard deviation."""
    return math.sqrt((_KURTOSIS[shape][0] - 1) / (4 * count))
