"""Where a stack neither explodes nor vanishes: slopes over the gain, measured beside theory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import torch
from torch import Tensor

from gainstage.analysis.gain import crossover as zero_of
from gainstage.analysis.gain import levels_bits, slope_bits
from gainstage.analysis.initial_scale import mean_field_chi
from gainstage.analysis.jacobian import spectral_norm, spectral_radius
from gainstage.analysis.mean_field import mean_field_levels
from gainstage.lab.deep_net import ACTIVATIONS, MATRICES, LayerStack, profile
from gainstage.lab.linear_chain import run_chain
from gainstage.lab.topic import Topic
from gainstage.lab.topic_page import Figure, Line, Table, TopicPage, bits, number
from gainstage.lab.validate import counted

WEIGHTS = (0.5, 0.7, 0.9, 1.0, -1.0, 1.1, 1.4, 2.0)
GAINS = (0.5, 0.71, 1.0, 1.41, 2.0)
_SEARCHED = np.geomspace(0.5, 4.0, 7)
_NEARER = (0.4, 0.1)
"""Bits on either side of a crossing in which it is then looked for more closely."""
_LONG = 400
"""Powers of one matrix after which only its spectral radius counts."""


@dataclass(frozen=True, slots=True)
class Slope:
    """One stack: how it was set up, what was measured, what theory says."""

    matrix: str
    activation: str
    gain: float
    forward: float
    backward: float
    theory_forward: float
    theory_backward: float


@dataclass(frozen=True, slots=True)
class Crossing:
    """The gain at which the backward slope is 0 bits a layer."""

    matrix: str
    activation: str
    measured: float | None
    theory: float | None
    chi: float | None
    """χ of the stack's layers at the measured gain, their median; 1 is critical."""


@dataclass(frozen=True, slots=True)
class MatrixPower:
    """One matrix applied again and again, as a recurrent net does."""

    name: str
    spectral_radius: float
    spectral_norm: float
    early_bits: float
    """Largest gain, in bits, of any input over the first step."""
    late_bits: float
    """Measured slope, bits a step, once it has settled."""


@dataclass(frozen=True, slots=True)
class CrossoverTopic(Topic):
    """Slopes over the gain, and where they cross zero."""

    depth: int
    width: int
    scalar: tuple[Slope, ...]
    stacks: tuple[Slope, ...]
    crossings: tuple[Crossing, ...]
    powers: tuple[MatrixPower, ...]

    def topic_page(self) -> TopicPage:
        """Return the crossover as text, tables and pictures."""
        return TopicPage(
            "crossover",
            f"Where is 0 bits a layer? {self.depth} layers, matrices of width {self.width}",
            (
                "Above 0 bits a layer the signal explodes with depth, below it vanishes.",
                Table(
                    "The linear chain, w a number",
                    ("w", "forward", "backward", "theory log2|w|"),
                    tuple(
                        (number(s.gain), bits(s.forward), bits(s.backward), bits(s.theory_backward))
                        for s in self.scalar
                    ),
                ),
                self._picture(),
                self._stack_table(),
                Table(
                    "Gain at which δ neither grows nor shrinks",
                    ("matrix", "activation:", "measured", "theory", "χ measured there"),
                    tuple(
                        (
                            c.matrix,
                            c.activation,
                            _gain(c.measured),
                            _gain(c.theory),
                            "-" if c.chi is None else f"{c.chi:.2f}",
                        )
                        for c in self.crossings
                    ),
                    "χ: by how much a layer multiplies the mean square of δ; "
                    "tanh settles at any gain above 1 forward, so the gradient decides; GELU has "
                    "no scale-free point, its crossing depends on the level of the input",
                ),
                Table(
                    f"One matrix used {_LONG} times, as through time",
                    ("matrix", "spectral radius", "largest singular", "first step", "late"),
                    tuple(
                        (
                            p.name,
                            number(p.spectral_radius, 4),
                            number(p.spectral_norm, 4),
                            bits(p.early_bits),
                            bits(p.late_bits),
                        )
                        for p in self.powers
                    ),
                    "in bits a step: the largest singular value rules the first step, the "
                    "spectral radius all that comes late; above 1 the one is necessary for an "
                    "explosion, not sufficient",
                ),
            ),
        )

    def _picture(self) -> Figure:
        lines: list[Line] = []
        for act in ACTIVATIONS:
            own = [s for s in self.stacks if s.activation == act and s.matrix == "gaussian"]
            x = tuple(math.log2(s.gain) for s in own)
            lines.append(Line(act, x, tuple(s.backward for s in own)))
            lines.append(
                Line(f"{act}, theory", x, tuple(s.theory_backward for s in own), is_dashed=True)
            )
        return Figure(
            "Slope of δ over the gain, Gaussian matrices",
            "gain in bits",
            "bits a layer",
            tuple(lines),
            (("neither grows nor shrinks", 0.0),),
            note="dashed: mean field theory, at infinite width",
        )

    def _stack_table(self) -> Table:
        return Table(
            "Matrices and non-linearity: bits a layer, measured (theory)",
            ("stack", "gain", "forward", "(theory)", "backward", "(theory)"),
            tuple(
                (
                    f"{s.matrix} {s.activation}",
                    number(s.gain),
                    bits(s.forward),
                    f"({bits(s.theory_forward)})",
                    bits(s.backward),
                    f"({bits(s.theory_backward)})",
                )
                for s in self.stacks
            ),
            "gain: singular values are of that size, root mean square; theory: mean field at "
            "infinite width",
        )


def crossover(depth: int = 30, width: int = 96, *, seed: int = 0) -> CrossoverTopic:
    """Measure slopes over gains from 0.5 to 2 and find where they cross zero.

    Args:
        depth: Layers of a stack, 2 to 200.
        width: Of its matrices, 2 to 1024.
        seed: Of the weights.

    Raises:
        ConfigError: If depth or width are out of range.
    """
    counted("layers", depth, 200, 2)
    counted("width", width, 1024, 2)
    stacks = [
        _slope(matrix, act, gain, depth, width, seed)
        for matrix in MATRICES
        for act in ACTIVATIONS
        for gain in GAINS
    ]
    crossings = [
        _crossing(matrix, act, depth, width, seed) for matrix in MATRICES for act in ACTIVATIONS
    ]
    return CrossoverTopic(
        depth,
        width,
        tuple(_scalar(w, depth) for w in WEIGHTS),
        tuple(stacks),
        tuple(crossings),
        tuple(_powers(width, seed)),
    )


def _scalar(weight: float, depth: int) -> Slope:
    found = run_chain(weight, depth, 1.0, 0.0, torch.float64)
    theory = math.log2(abs(weight))
    return Slope(
        "number", "linear", weight, found.forward_slope, found.backward_slope, theory, theory
    )


@lru_cache(maxsize=4)
def _unit(matrix: str, depth: int, width: int, seed: int) -> tuple[Tensor, list[Tensor]]:
    """Return inputs and the weights of gain 1, which every other gain scales."""
    generator = torch.Generator().manual_seed(seed)
    weights = [MATRICES[matrix](width, 1.0, generator) for _ in range(depth)]
    return torch.randn(64, width, generator=generator), weights


def _stack(matrix: str, act: str, gain: float, depth: int, width: int, seed: int) -> LayerStack:
    return LayerStack([gain * weight for weight in _unit(matrix, depth, width, seed)[1]], act)


def _slope(matrix: str, act: str, gain: float, depth: int, width: int, seed: int) -> Slope:
    inputs, _ = _unit(matrix, depth, width, seed)
    found = profile(_stack(matrix, act, gain, depth, width, seed), inputs)
    return Slope(
        matrix, act, gain, found.forward_slope, found.backward_slope, *_theory(act, gain, depth)
    )


@cache
def _theory(act: str, gain: float, depth: int) -> tuple[float, float]:
    forward, backward = mean_field_levels(act, gain, depth)
    return slope_bits(forward), slope_bits(backward)


def _crossing(matrix: str, act: str, depth: int, width: int, seed: int) -> Crossing:
    inputs, _ = _unit(matrix, depth, width, seed)

    def measured(gain: float) -> float:
        return profile(_stack(matrix, act, gain, depth, width, seed), inputs).backward_slope

    gain = _zero(measured)
    chi = None if gain is None else _chi(_stack(matrix, act, gain, depth, width, seed), inputs)
    return Crossing(matrix, act, gain, _zero(lambda g: _theory(act, g, depth)[1]), chi)


def _chi(stack: LayerStack, inputs: Tensor) -> float:
    """Return the median χ of the layers, each measured by one vjp."""
    states = [state.detach() for state in stack.states(inputs)]
    chis: list[float] = []
    for layer, (weight, before) in enumerate(zip(list(stack.weights)[1:], states, strict=False)):

        def following(z: Tensor, weight: Tensor = weight) -> Tensor:
            return stack.activation(z) @ weight.T

        chis.append(mean_field_chi(following, before, seed=layer))
    return float(np.median(chis))


def _zero(slope: Callable[[float], float]) -> float | None:
    """Return the gain between 0.5 and 4 at which a slope crosses 0; None if it does not."""
    found = zero_of(_SEARCHED, [slope(float(gain)) for gain in _SEARCHED])
    for width in _NEARER:
        if found is not None:
            near = found * 2.0 ** np.linspace(-width, width, 5)
            found = zero_of(near, [slope(float(gain)) for gain in near]) or found
    return found


def _powers(width: int, seed: int) -> list[MatrixPower]:
    generator = torch.Generator().manual_seed(seed)
    sheared = torch.tensor([[0.9, 10.0], [0.0, 0.9]])
    matrices = {
        "gaussian 1": MATRICES["gaussian"](width, 1.0, generator),
        "gaussian 0.7": MATRICES["gaussian"](width, 0.7, generator),
        "orthogonal 1": MATRICES["orthogonal"](width, 1.0, generator),
        "[[0.9, 10], [0, 0.9]]": sheared,
    }
    return [_power(name, matrix.double()) for name, matrix in matrices.items()]


def _power(name: str, matrix: Tensor) -> MatrixPower:
    states = [torch.linalg.svd(matrix)[2][0]]
    for _ in range(_LONG):
        states.append(matrix @ states[-1])
    levels = levels_bits(states)
    return MatrixPower(
        name,
        float(spectral_radius(matrix)),
        float(spectral_norm(matrix)),
        float(levels[1] - levels[0]),
        slope_bits(levels[_LONG // 2 :]),
    )


def _gain(value: float | None) -> str:
    return "none in 0.5 .. 4" if value is None else f"{value:.3f}"
