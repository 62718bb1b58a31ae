"""Initialisation: bits a layer by scheme and activation, and where N(0, 1) overflows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gainstage.analysis.gain import stages_to_overflow
from gainstage.bits import LARGEST
from gainstage.lab.deep_net import ACTIVATIONS, LayerStack, profile
from gainstage.lab.probed import ProbedLevels
from gainstage.lab.residual import Grown, grown
from gainstage.lab.topic import Topic
from gainstage.lab.topic_page import Figure, Line, Table, TopicPage, bits
from gainstage.lab.validate import counted, dtype_named
from gainstage.lab.watched_runs import Progress, quiet
from gainstage.norms.total import total_norm
from gainstage.treat.model.initialise import initialise_

DEPTHS = (10, 30, 100)
DTYPES = ("float16", "bfloat16", "float32")
NORMAL = "N(0, 1)"
SCHEMES = {
    NORMAL: "",
    "He": "he",
    "Xavier": "xavier",
    "orthogonal": "orthogonal",
    "identity": "identity",
    "LSUV": "lsuv",
    "auto": "auto",
}
"""By name, the kind that `initialise_` and `--treat reinit` know; N(0, 1) is none of them."""
_PASSED = {"linear": 1.0, "tanh": 1.0, "relu": 0.5, "gelu": 0.5}
"""Share of the power that an activation passes on where its input is large; tanh saturates."""


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
    by_formula: int | None
    """From the headroom of the inputs and the gain that theory gives a layer."""
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
class InitTopic(Topic):
    """Everything about the initial scale."""

    width: int
    depth: int
    schemes: tuple[Scheme, ...]
    overflows: tuple[Overflow, ...]
    residual: tuple[Grown, ...]
    trained: tuple[Trained, ...]

    def topic_page(self) -> TopicPage:
        """Return the initial scale as text, tables and pictures."""
        depths = [depth for depth, _, _ in self.schemes[0].slopes]
        return TopicPage(
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
                self._residual(),
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
            "lost: it has overflowed forward. He, orthogonal and LSUV take the gain of the "
            "activation that the graph shows to follow; auto is He before ReLU, LSUV before GELU, "
            "orthogonal else. Identity is without gain: what a ReLU lets pass once, it lets pass "
            "always",
        )

    def _overflows(self) -> Table:
        return Table(
            "N(0, 1): the layer at which the activation overflows",
            ("activation", "dtype:", "by theory", "predicted", "run"),
            tuple(
                (
                    o.activation,
                    o.dtype,
                    "never" if o.by_formula is None else f"layer {o.by_formula}",
                    "never" if o.predicted is None else f"layer {o.predicted}",
                    "never" if o.measured is None else f"layer {o.measured}",
                )
                for o in self.overflows
            ),
            "by theory: headroom of N(0, 1) inputs / bits a layer, right to a layer or so; "
            "predicted: the levels of these weights in float64, first layer beyond the dtype; run: "
            "in the dtype. tanh never overflows forward: it saturates",
        )

    def _residual(self) -> Table:
        blocks = list(dict.fromkeys(each.blocks for each in self.residual))
        return Table(
            "Residual blocks x + W2·relu(W1·x): bits that the stream has gained at the end",
            ("weights", *(f"{count} blocks" for count in blocks)),
            tuple(
                (kind, *(bits(each.gained_bits) for each in self.residual if each.kind == kind))
                for kind in dict.fromkeys(each.kind for each in self.residual)
            ),
            "auto keeps the level of every branch, so each block doubles the power; residual "
            "divides the last weight of every branch by the root of the number of sums",
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


def init(
    width: int = 128, depth: int = 100, *, seed: int = 0, progress: Progress = quiet
) -> InitTopic:
    """Measure initial weights by scheme, activation and depth, and where N(0, 1) overflows.

    Args:
        width: Of all layers, 2 to 1024.
        depth: Of the deepest stack, 1 to 300; 10 and 30 are measured as well where it is deeper.
        seed: Of weights and inputs.
        progress: Called with a line about each longer computation.

    Raises:
        ConfigError: If width or depth are out of range.
    """
    counted("width", width, 1024, 2)
    counted("layers", depth, 300)
    depths = [each for each in DEPTHS if each < depth] + [depth]
    schemes: list[Scheme] = []
    for name in SCHEMES:
        progress(f"{name}: {len(ACTIVATIONS)} activations, up to {depth} layers")
        schemes += [_scheme(name, activation, depths, width, seed) for activation in ACTIVATIONS]
    progress("where N(0, 1) overflows; residual blocks; the control")
    overflows = [_overflow(act, dtype, width, seed) for act in ACTIVATIONS for dtype in DTYPES]
    residual = [
        grown(kind, blocks, width, seed) for kind in ("auto", "residual") for blocks in depths
    ]
    trained = [_train(name, each) for each in (4, 12) for name in (NORMAL, "He")]
    return InitTopic(
        width, depth, tuple(schemes), tuple(overflows), tuple(residual), tuple(trained)
    )


def initialised(name: str, activation: str, depth: int, inputs: Tensor, seed: int) -> LayerStack:
    """Return a stack as wide as its inputs, with weights by a name of `SCHEMES`."""
    generator = torch.Generator().manual_seed(seed)
    width = inputs.shape[1]
    weights = [torch.randn(width, width, generator=generator) for _ in range(depth)]
    stack = LayerStack(weights, activation)
    if SCHEMES[name]:
        initialise_(stack, inputs, kind=SCHEMES[name], seed=seed)
    return stack


def _inputs(width: int, seed: int) -> Tensor:
    return torch.randn(64, width, generator=torch.Generator().manual_seed(seed + 1))


def _scheme(name: str, activation: str, depths: Sequence[int], width: int, seed: int) -> Scheme:
    inputs = _inputs(width, seed)
    stack = initialised(name, activation, depths[-1], inputs, seed)
    found = [profile(stack, inputs, depth) for depth in depths]
    slopes = [
        (depth, each.forward_slope, each.backward_slope)
        for depth, each in zip(depths, found, strict=True)
    ]
    return Scheme(name, activation, tuple(slopes), found[-1].forward_bits)


def _overflow(activation: str, dtype: str, width: int, seed: int) -> Overflow:
    kind, top = dtype_named(dtype), math.log2(LARGEST[dtype])
    gain = 0.5 * math.log2(width * _PASSED[activation])
    stages = stages_to_overflow(0.0, gain)[dtype]
    depth = min(300, math.ceil(1.3 * stages) + 4)
    inputs = _inputs(width, seed).to(kind)
    stack = initialised(NORMAL, activation, depth, _inputs(width, seed), seed).to(kind)
    narrow = profile(stack, inputs)
    wide = profile(stack.double(), inputs.double())
    return Overflow(
        activation,
        dtype,
        None if activation == "tanh" else math.floor(stages) + 1,
        _first(wide, top),
        _first(narrow, top),
    )


def _or_lost(slope: float) -> str:
    return "lost" if math.isnan(slope) else bits(slope)


def _first(found: ProbedLevels, top_bits: float) -> int | None:
    beyond = [i for i, peak in enumerate(found.peak_bits, 1) if not peak <= top_bits]
    return beyond[0] if beyond else None


def _train(name: str, depth: int, width: int = 64) -> Trained:
    """Fit a smooth function of 64 numbers with a ReLU stack, by 20 steps of SGD."""
    inputs = _inputs(width, 0)
    stack = initialised(name, "relu", depth, inputs, 0)
    optimizer = torch.optim.SGD(stack.parameters(), lr=0.01)
    losses: list[float] = []
    norms: list[float] = []
    for _ in range(20):
        loss = nn.functional.mse_loss(stack(inputs).mean(1), inputs.mean(1))
        optimizer.zero_grad()
        loss.backward()
        norms.append(total_norm([p.grad for p in stack.parameters() if p.grad is not None]))
        optimizer.step()
        losses.append(loss.item())
    return Trained(name, depth, losses[0], losses[-1], norms[0])
