"""Initialisation: bits a layer by scheme and activation, and where N(0, 1) overflows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from gainstage.lab.deep_net import ACTIVATIONS, Profile, profile
from gainstage.lab.initialisers import NAMES, initial_weights
from gainstage.lab.levels import counted, dtype_named
from gainstage.lab.sheet import Figure, Line, Sheet, Shown, Table, bits
from gainstage.lab.watched import Tell, quiet

DEPTHS = (10, 30, 100)
DTYPES = ("float16", "bfloat16", "float32")
_DIM = {"linear": 1.0, "tanh": 1.0, "relu": 0.5, "gelu": 0.5}


@dataclass(frozen=True, slots=True)
class Scheme:
    """One initialisation with one activation."""

    init: str
    activation: str
    slopes: tuple[tuple[int, float, float], ...]
    """(depth, forward, backward) in bits a layer."""
    forward_bits: tuple[float, ...]
    """Of the deepest stack."""


@dataclass(frozen=True, slots=True)
class Overflow:
    """The layer at which a stack of N(0, 1) weights overflows in a dtype."""

    activation: str
    dtype: str
    by_formula: float | None
    """log2 of the dtype's largest value over log2 of the gain that theory gives a layer."""
    predicted: int | None
    """First layer whose largest magnitude, in float64, is beyond the dtype."""
    measured: int | None
    """First layer that is not finite, run in the dtype."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A few steps of SGD: a scenario that explodes, or its control."""

    init: str
    depth: int
    first_loss: float
    final_loss: float
    grad_norm: float


@dataclass(frozen=True, slots=True)
class Init(Shown):
    """Everything about the initial scale."""

    width: int
    depth: int
    schemes: tuple[Scheme, ...]
    overflows: tuple[Overflow, ...]
    trained: tuple[Trained, ...]

    def sheet(self) -> Sheet:
        """Return the initial scale as text, tables and pictures."""
        depths = [depth for depth, _, _ in self.schemes[0].slopes]
        return Sheet(
            "init",
            f"Initial weights: layers of width {self.width}, depth {depths[0]} to {depths[-1]}",
            (
                "A layer that neither adds nor takes level has 0 bits a layer, forward and back. "
                f"N(0, 1) multiplies by about sqrt({self.width}) instead.",
                self._slopes(depths[-1]),
                Figure(
                    "ReLU: level of the activations over depth",
                    "layer",
                    "bits",
                    tuple(
                        Line(s.init, tuple(map(float, range(len(s.forward_bits)))), s.forward_bits)
                        for s in self.schemes
                        if s.activation == "relu"
                    ),
                    (("float16's largest", math.log2(65504.0)),),
                ),
                self._overflows(),
                self._trained(),
            ),
        )

    def _slopes(self, deepest: int) -> Table:
        depths = [depth for depth, _, _ in self.schemes[0].slopes]
        return Table(
            "Bits a layer, forward / backward, by depth",
            ("weights", "activation:", *(str(depth) for depth in depths)),
            tuple(
                (
                    s.init,
                    s.activation,
                    *(f"{bits(forward)} / {_or_lost(back)}" for _, forward, back in s.slopes),
                )
                for s in self.schemes
            ),
            f"at {deepest} layers +0.05 bits a layer are a factor of {2 ** (0.05 * deepest):.0f}; "
            "lost: it has overflowed forward",
        )

    def _overflows(self) -> Table:
        return Table(
            "N(0, 1): the layer at which the activation overflows",
            ("activation", "dtype:", "formula", "its own profile", "run"),
            tuple(
                (
                    o.activation,
                    o.dtype,
                    "never" if o.by_formula is None else f"{o.by_formula:.1f}",
                    "never" if o.predicted is None else f"layer {o.predicted}",
                    "never" if o.measured is None else f"layer {o.measured}",
                )
                for o in self.overflows
            ),
            "formula: headroom / (bits a layer that theory gives); profile: the same weights in "
            "float64, first layer beyond the dtype; run: in the dtype. tanh never overflows "
            "forward: it saturates",
        )

    def _trained(self) -> Table:
        return Table(
            "Deeper than 10 layers: 20 steps of SGD, and the control",
            ("weights", "layers", "first loss", "gradient norm", "loss at the end"),
            tuple(
                (
                    t.init,
                    str(t.depth),
                    f"{t.first_loss:.4g}",
                    f"{t.grad_norm:.3g}",
                    f"{t.final_loss:.4g}",
                )
                for t in self.trained
            ),
        )


def init(width: int = 128, depth: int = 100, *, seed: int = 0, tell: Tell = quiet) -> Init:
    """Measure initial weights by scheme, activation and depth, and where N(0, 1) overflows.

    Args:
        width: Of all layers, 2 to 1024.
        depth: Of the deepest stack, 1 to 300; 10 and 30 are measured as well where it is deeper.
        seed: Of weights and inputs.
        tell: Hears what is being done.

    Raises:
        ConfigError: If width or depth are out of range.
    """
    counted("width", width, 1024, 2)
    counted("layers", depth, 300)
    depths = [each for each in DEPTHS if each < depth] + [depth]
    schemes: list[Scheme] = []
    for name in NAMES:
        tell(f"{name}: {len(ACTIVATIONS)} activations, up to {depth} layers")
        schemes += [_scheme(name, activation, depths, width, seed) for activation in ACTIVATIONS]
    overflows = [_overflow(act, dtype, width, seed) for act in ACTIVATIONS for dtype in DTYPES]
    trained = [_train(name, each) for each in (4, 12) for name in ("N(0, 1)", "He")]
    return Init(width, depth, tuple(schemes), tuple(overflows), tuple(trained))


def _inputs(width: int, seed: int) -> torch.Tensor:
    return torch.randn(64, width, generator=torch.Generator().manual_seed(seed + 1))


def _scheme(name: str, activation: str, depths: Sequence[int], width: int, seed: int) -> Scheme:
    inputs = _inputs(width, seed)
    weights = initial_weights(name, activation, depths[-1], width, inputs, seed)
    found = [profile(weights[:depth], inputs, activation) for depth in depths]
    slopes = [
        (depth, each.forward_slope, each.backward_slope)
        for depth, each in zip(depths, found, strict=True)
    ]
    return Scheme(name, activation, tuple(slopes), found[-1].forward_bits)


def _overflow(activation: str, dtype: str, width: int, seed: int) -> Overflow:
    kind = dtype_named(dtype)
    largest = torch.finfo(kind).max
    gain = 0.5 * math.log2(width * _DIM[activation])
    depth = min(300, math.ceil(1.3 * math.log2(largest) / gain) + 4)
    inputs = _inputs(width, seed)
    weights = initial_weights("N(0, 1)", activation, depth, width, inputs, seed)
    held = [weight.to(kind) for weight in weights]
    wide = profile([w.double() for w in held], inputs.to(kind).double(), activation)
    narrow = profile(held, inputs.to(kind), activation)
    saturates = activation == "tanh"
    return Overflow(
        activation,
        dtype,
        None if saturates else math.log2(largest) / gain,
        _first(wide, largest),
        _first(narrow, largest),
    )


def _or_lost(slope: float) -> str:
    return "lost" if math.isnan(slope) else bits(slope)


def _first(found: Profile, largest: float) -> int | None:
    beyond = [i for i, peak in enumerate(found.peak, 1) if not peak <= largest]
    return beyond[0] if beyond else None


def _train(name: str, depth: int, width: int = 64) -> Trained:
    """Fit a smooth function of 64 numbers with a ReLU stack, by 20 steps of SGD."""
    inputs = _inputs(width, 0)
    weights = initial_weights(name, "relu", depth, width, inputs, 0)
    parameters = [nn.Parameter(weight) for weight in weights]
    optimizer = torch.optim.SGD(parameters, lr=0.01)
    losses: list[float] = []
    norm = 0.0
    for _ in range(20):
        state = inputs
        for parameter in parameters:
            state = torch.relu(state @ parameter.T)
        loss = nn.functional.mse_loss(state.mean(1), inputs.mean(1))
        optimizer.zero_grad()
        loss.backward()
        grads = [p.grad.double() for p in parameters if p.grad is not None]
        norm = norm or float(torch.cat([grad.flatten() for grad in grads]).norm())
        optimizer.step()
        losses.append(loss.item())
    return Trained(name, depth, losses[0], losses[-1], norm)
