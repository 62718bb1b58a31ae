"""The linear chain a_i = w·a_{i−1}: forward, backward and one update, by autograd.

Two conventions are in print. δ_i by `text` is the gradient at a layer's output, 1 at the last
layer; δ_i by `code` is what a loop records that multiplies before it records: the gradient at the
layer's input, w times as large. Autograd has both, and neither is made up here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from gainstage.analysis.gain import level_bits
from gainstage.errors import ConfigError
from gainstage.lab.overflow import OverflowDepth, overflow_depth
from gainstage.lab.probed import read_levels
from gainstage.lab.topic import Topic
from gainstage.lab.topic_page import Bars, Table, TopicPage, bits, number, share
from gainstage.lab.validate import counted, dtype_named, finite

CONVENTIONS = ("text", "code")
EXTRAPOLATED = 20
MOST_LAYERS = 5000
"""Autograd recurses through no more than it can; and nobody reads a longer table."""
_SHOWN = 12
"""Rows of a table of layers before its middle is left out."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of the chain, as autograd sees it."""

    index: int
    """From 1, the layer next to the input."""
    activation: float
    delta_output: float
    """∂L/∂a_i, 1 at the last layer."""
    delta_input: float
    """∂L/∂a_{i−1}."""
    weight_grad: float


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward and backward pass through a chain, and the SGD step that follows."""

    layers: tuple[Layer, ...]
    forward_slope: float
    """Of the activations, bits a layer, as the record of a sampled step has them."""
    backward_slope: float
    """Of δ, towards the input."""
    weight: float
    """As the dtype holds it."""
    update: float
    """What SGD takes from the weight of layer 1, read off the weight itself."""

    @property
    def share(self) -> float:
        """The update as a share of the weight; inf for a weight of 0."""
        return abs(self.update / self.weight) if self.weight else math.inf


@dataclass(frozen=True, slots=True)
class ChainTopic(Topic):
    """The worked example."""

    weight: float
    value: float
    lr: float
    convention: str
    dtype: str
    given: Pass
    deeper: Pass
    """The same chain with 20 layers, really run."""
    depths: tuple[OverflowDepth, ...]

    def delta(self, layer: Layer) -> float:
        """Return δ of a layer by the chain's convention."""
        return layer.delta_output if self.convention == "text" else layer.delta_input

    def topic_page(self) -> TopicPage:
        """Return the example as text, tables and pictures."""
        first = self.given.layers[0]
        far = self.deeper.layers[0]
        rows = tuple(
            (
                f"L{layer.index}",
                number(layer.activation),
                number(self.delta(layer)),
                bits(_bits(self.delta(layer))),
                number(layer.weight_grad),
            )
            for layer in self.given.layers
        )
        count = len(self.given.layers)
        return TopicPage(
            "chain",
            f"A linear chain of {count} layers, w = {number(self.weight)}, x = "
            f"{number(self.value)}, {self.dtype}",
            (
                "Each layer multiplies by w: the activation on the way forward, the gradient δ on "
                "the way back. Measured by autograd, not by the formula.",
                Table(
                    "Layer by layer",
                    ("layer", "activation", "δ", "δ in bits", "∂L/∂W"),
                    _shortened(rows),
                    f"slope {bits(self.given.backward_slope)} bits a layer towards the input; "
                    f"∂L/∂W_i = δ_i·a_(i-1) is the same for every layer, by text's δ",
                ),
                self._picture(),
                f"SGD with lr {number(self.lr)}: the weight of layer 1 changes by "
                f"{number(self.given.update)}, {share(self.given.share)} of it "
                f"(∂L/∂W1 = {number(first.weight_grad)}).",
                f"{len(self.deeper.layers)} layers, run as well: δ1 = "
                f"{number(self.delta(far))} (2^{number(_bits(self.delta(far)), 4)}), "
                f"update {number(self.deeper.update)}.",
                _depth_table(self.depths),
                self._conventions(),
            ),
        )

    def _picture(self) -> Bars:
        layers = (
            self.given.layers[-EXTRAPOLATED:][::-1]
            if len(self.given.layers) > (EXTRAPOLATED)
            else self.given.layers[::-1]
        )
        far = self.delta(self.deeper.layers[0])
        return Bars(
            f"δ from the output (L{layers[0].index}) to the input (L{layers[-1].index})",
            tuple(f"L{layer.index}" for layer in layers),
            tuple(self.delta(layer) for layer in layers),
            "",
            f"at {len(self.deeper.layers)} layers δ1 = {number(far)}",
        )

    def _conventions(self) -> str:
        here, there = self.given.layers[0].delta_output, self.given.layers[0].delta_input
        return (
            f"Convention '{self.convention}'. text: δ is the gradient at a layer's output, "
            f"1 at the last layer, so δ1 = {number(here)}. code: the loop multiplies before it "
            f"records, which is the gradient at the layer's input, so δ1 = {number(there)}. "
            "A well-known listing prints 16 8 4 2 1 for w = 2 beside 0.0312 ... 0.5 for w = 0.5: "
            "the first is text, the second code. Autograd's ∂L/∂W goes with text."
        )


def chain(
    weight: float = 2.0,
    layers: int = 5,
    value: float = 1.0,
    *,
    lr: float = 0.1,
    convention: str = "text",
    dtype: str = "float32",
) -> ChainTopic:
    """Run a linear chain forward, backward and one SGD step, and the same with 20 layers.

    Args:
        weight: The w of every layer.
        layers: How many, 1 to 5000.
        value: The input x.
        lr: Learning rate of the step.
        convention: `text` or `code`: which gradient is called δ.
        dtype: Of all values: float16, bfloat16, float32, float64.

    Raises:
        ConfigError: If a number is not finite, there is no layer, or a name is unknown.

    Example:
        >>> [layer.delta_output for layer in chain(weight=3).given.layers]
        [81.0, 27.0, 9.0, 3.0, 1.0]
    """
    finite("weight", weight)
    finite("input", value)
    finite("lr", lr)
    counted("layers", layers, MOST_LAYERS)
    if convention not in CONVENTIONS:
        raise ConfigError(f"convention must be text or code, got {convention!r}")
    kind = dtype_named(dtype)
    given = run_chain(weight, layers, value, lr, kind)
    deeper = run_chain(weight, EXTRAPOLATED, value, lr, kind)
    return ChainTopic(
        weight,
        value,
        lr,
        convention,
        str(kind).removeprefix("torch."),
        given,
        deeper,
        tuple(overflow_depth(weight, value, each) for each in ("float16", "bfloat16", "float32")),
    )


def run_chain(weight: float, layers: int, value: float, lr: float, dtype: torch.dtype) -> Pass:
    """Return one pass through a chain with a weight of its own in every layer."""
    weights = [torch.nn.Parameter(torch.tensor(weight, dtype=dtype)) for _ in range(layers)]
    states = [torch.tensor(value, dtype=dtype, requires_grad=True)]
    for each in weights:
        states.append(each * states[-1])
        states[-1].retain_grad()
    levels = read_levels(states[-1], states[1:])
    optimizer = torch.optim.SGD(weights, lr=lr)
    held = weights[0].item()
    grads = [_gradient(each) for each in weights]
    optimizer.step()
    deltas = [_gradient(state) for state in states]
    return Pass(
        tuple(
            Layer(
                i,
                states[i].item(),
                deltas[i].item(),
                deltas[i - 1].item(),
                grads[i - 1].item(),
            )
            for i in range(1, layers + 1)
        ),
        levels.forward_slope,
        levels.backward_slope,
        held,
        held - weights[0].item(),
    )


def _bits(value: float) -> float:
    return level_bits(torch.tensor(value, dtype=torch.float64))


def _gradient(tensor: torch.Tensor) -> torch.Tensor:
    assert tensor.grad is not None
    return tensor.grad.detach()


def _shortened(rows: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    if len(rows) <= 2 * _SHOWN:
        return rows
    gap = (f"... {len(rows) - 2 * _SHOWN} more", *[""] * (len(rows[0]) - 1))
    return (*rows[:_SHOWN], gap, *rows[-_SHOWN:])


def _depth_table(depths: tuple[OverflowDepth, ...]) -> Table:
    return Table(
        "How deep each dtype carries the activation",
        ("dtype", "largest", "formula", "run", "layer before", "there"),
        tuple(depth.row() for depth in depths),
        "the first layer that overflows to inf or sinks to 0: computed, then run just past it",
    )
