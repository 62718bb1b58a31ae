"""Recurrence: w^T, matrices, and what RNN, GRU and LSTM remember, before and after clipping."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gainstage.analysis.gain import level_bits, levels_bits, stages_to_overflow
from gainstage.analysis.jacobian import spectral_norm, spectral_radius, trajectory_jacobians
from gainstage.analysis.lyapunov import lyapunov_exponents
from gainstage.errors import ConfigError
from gainstage.lab.adding_task import BASELINE, CELLS, Adder, draw, train
from gainstage.lab.deep_net import MATRICES
from gainstage.lab.time_steps import added_gradients, by_time_step
from gainstage.lab.topic import Topic
from gainstage.lab.topic_page import Figure, Line, Table, TopicPage, bits, number, share
from gainstage.lab.validate import counted, finite, positive
from gainstage.lab.watched_runs import Progress, quiet
from gainstage.norms.clip import clip_coefficient
from gainstage.norms.total import total_norm

WEIGHTS = (1.01, 0.99, 1.2, 1.0)
LENGTHS = (10, 100, 1000)
TRAINED = (10, 30, 100)
_STEPS = 80
_PROBED = 200
"""Time steps over which the memory horizon of a trained net is measured."""
_GAINS = (0.9, 1.0, 1.1)
_FOLLOWED = 60
"""Time steps of the trajectory along which exponents are measured."""


@dataclass(frozen=True, slots=True)
class Power:
    """One number multiplied in at every time step."""

    weight: float
    time_steps: int
    gradient: float
    """∂h_T/∂h_0, by autograd, in float64."""
    overflows_after: float
    """Time steps until float32 overflows; inf for never."""


@dataclass(frozen=True, slots=True)
class MatrixRun:
    """One matrix in a tanh recurrence."""

    name: str
    gain: float
    spectral_radius: float
    spectral_norm: float
    exponent: float
    """Largest finite-time Lyapunov exponent, bits a time step."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """How far back the gradient of one cell reaches at one length."""

    cell: str
    length: int
    delta_bits: tuple[float, ...]
    """Level of ∂L/∂h at distance 0, 1, 2, ... from the last time step."""
    slope_bits: float
    """Of `delta_bits`, bits a time step; negative vanishes."""
    horizon: float
    """Time steps until δ has fallen by 24 bits, by its slope; inf where it does not fall."""


@dataclass(frozen=True, slots=True)
class Exploding:
    """What each time step adds to an exploding gradient, and what a clip leaves of it."""

    added_bits: tuple[float, ...]
    """At distance 0, 1, 2, ... from the last time step."""
    clipped_bits: tuple[float, ...]
    grad_norm: float
    coefficient: float


@dataclass(frozen=True, slots=True)
class Learned:
    """What a clipped training of some steps came to."""

    cell: str
    length: int
    share_clipped: float
    error: float
    """Mean squared error over the last tenth of the steps."""
    horizon_before: float
    """Memory horizon of the untrained net, in time steps."""
    horizon_after: float


@dataclass(frozen=True, slots=True)
class RecurrentTopic(Topic):
    """Everything about recurrence."""

    time_steps: int
    max_norm: float
    powers: tuple[Power, ...]
    matrices: tuple[MatrixRun, ...]
    cells: tuple[Remembered, ...]
    exploding: Exploding
    learned: tuple[Learned, ...]

    def topic_page(self) -> TopicPage:
        """Return recurrence as text, tables and pictures."""
        return TopicPage(
            "recurrent",
            f"Through time: the same weight {self.time_steps} times",
            (
                "A recurrent net is a chain whose every layer has the same weight. A gradient "
                "from T steps away is multiplied by the state Jacobian T times.",
                self._powers(),
                self._matrices(),
                self._profiles(),
                self._picture(),
                self._clipped(),
                *(self._training() if self.learned else ()),
            ),
        )

    def _powers(self) -> Table:
        return Table(
            f"∂h_T/∂h_0 after T = {self.time_steps}, by autograd",
            ("w", "gradient", "in bits", "float32 overflows after"),
            tuple(
                (
                    number(p.weight),
                    number(p.gradient),
                    bits(level_bits(torch.tensor(p.gradient, dtype=torch.float64))),
                    _steps(p.overflows_after),
                )
                for p in self.powers
            ),
            "1.2 explodes over 100 steps; 1 is its control",
        )

    def _matrices(self) -> Table:
        return Table(
            "Matrices in h = tanh(W h + input): the largest Lyapunov exponent",
            ("matrix", "gain", "spectral radius", "largest singular", "bits a step"),
            tuple(
                (
                    m.name,
                    number(m.gain),
                    number(m.spectral_radius, 4),
                    number(m.spectral_norm, 4),
                    bits(m.exponent),
                )
                for m in self.matrices
            ),
            "measured along the trajectory by repeated QR: a largest singular value above 1 is "
            "needed for an explosion and does not make one",
        )

    def _profiles(self) -> Table:
        return Table(
            "Untrained cells on the adding task: how far back a gradient reaches",
            ("cell", "length", "bits a step", "memory horizon", "δ at step 1"),
            tuple(
                (
                    cell.cell,
                    str(cell.length),
                    f"{cell.slope_bits:+.3f}",
                    _steps(cell.horizon),
                    f"2^{cell.delta_bits[-1]:.0f}" if cell.delta_bits[-1] > -math.inf else "0",
                )
                for cell in self.cells
            ),
            "memory horizon: time steps until δ has fallen by the 24 bits that float32 resolves",
        )

    def _picture(self) -> Figure:
        longest = max(each.length for each in self.cells)
        shown = [each for each in self.cells if each.length == longest]
        return Figure(
            "δ by distance from the end of the sequence",
            "time steps back",
            "bits",
            tuple(_curve(e.cell, e.delta_bits[:300]) for e in shown),
            note="further back than drawn, δ goes on as it went",
        )

    def _clipped(self) -> Figure:
        each = self.exploding
        shift = math.log2(each.coefficient)
        return Figure(
            f"What each time step adds to the gradient of an exploding RNN, and what a clip at "
            f"{number(self.max_norm)} leaves",
            "time steps back",
            "bits",
            (
                _curve("before the clip", each.added_bits),
                _curve("after the clip", each.clipped_bits),
            ),
            note=f"norm 2^{math.log2(each.grad_norm):.0f}, factor 2^{shift:.0f}: the whole curve "
            f"is moved down by {-shift:.0f} bits, and no time step gains on another: the recent "
            "end now adds next to nothing. Clipping bounds the step; it brings nothing back.",
        )

    def _training(self) -> tuple[Table, Figure]:
        cells = dict.fromkeys(each.cell for each in self.learned)
        return (
            Table(
                f"Trained with clipping at {number(self.max_norm)} for {_STEPS} steps",
                ("cell", "length", "clipped", "error", "of guessing", "horizon before", "after"),
                tuple(
                    (
                        each.cell,
                        str(each.length),
                        share(each.share_clipped),
                        f"{each.error:.4f}",
                        share(each.error / BASELINE),
                        _steps(each.horizon_before),
                        _steps(each.horizon_after),
                    )
                    for each in self.learned
                ),
                "error: mean square; guessing always says 1 and scores 0.1667. Horizon: how far "
                "back a gradient reaches, before and after the clipped training. Signals from 500 "
                "steps away lie beyond it",
            ),
            Figure(
                "The honest limit: error over length, clipped all the way",
                "length in bits",
                "share of the error of guessing",
                tuple(
                    Line(
                        cell,
                        tuple(math.log2(e.length) for e in self.learned if e.cell == cell),
                        tuple(e.error / BASELINE for e in self.learned if e.cell == cell),
                    )
                    for cell in cells
                ),
                (("guessing", 1.0),),
                note="at 1 nothing was learned that a constant does not know",
            ),
        )


def recurrent(
    weights: Sequence[float] = WEIGHTS,
    time_steps: int = 100,
    *,
    max_norm: float = 1.0,
    training: bool = True,
    progress: Progress = quiet,
) -> RecurrentTopic:
    """Measure gradients through time: numbers, matrices, cells, and trainings under clipping.

    Args:
        weights: Numbers whose powers are taken.
        time_steps: How often, 1 to 5000.
        max_norm: Threshold of the clips, above 0.
        training: Whether to train as well (some ten seconds).
        progress: Called with a line about each longer computation.

    Raises:
        ConfigError: If a weight is not finite, or a count or threshold out of range.
    """
    counted("steps", time_steps, 5000)
    positive("max_norm", max_norm)
    if not weights:
        raise ConfigError("name at least one weight")
    powers = tuple(power(finite("weight", weight), time_steps) for weight in weights)
    matrices = tuple(_matrix(name, gain) for name in MATRICES for gain in _GAINS)
    cells: list[Remembered] = []
    for cell in CELLS:
        progress(f"{cell}: gradients of up to {max(LENGTHS)} time steps")
        cells += [_remembered(_fresh(cell), cell, length) for length in LENGTHS]
    learned: list[Learned] = []
    for cell in CELLS if training else ():
        progress(f"{cell}: training on the adding task")
        before = _remembered(_fresh(cell), cell, _PROBED).horizon
        learned += [_learned(cell, length, max_norm, before) for length in TRAINED]
    return RecurrentTopic(
        time_steps,
        max_norm,
        powers,
        matrices,
        tuple(cells),
        _exploding(100, max_norm),
        tuple(learned),
    )


def power(weight: float, time_steps: int) -> Power:
    """Return the gradient through `time_steps` multiplications by one number, by autograd."""
    start = torch.ones((), dtype=torch.float64, requires_grad=True)
    state = start
    for _ in range(time_steps):
        state = weight * state
    (gradient,) = torch.autograd.grad(state, start)
    gain = level_bits(torch.tensor(weight, dtype=torch.float64))
    left = stages_to_overflow(0.0, gain)["float32"]
    return Power(
        weight, time_steps, gradient.item(), math.floor(left) + 1.0 if left < math.inf else left
    )


def _matrix(name: str, gain: float, width: int = 48) -> MatrixRun:
    generator = torch.Generator().manual_seed(0)
    matrix = MATRICES[name](width, gain, generator).double()
    inputs = 0.1 * torch.randn(_FOLLOWED, width, generator=generator).double()

    def step(before: Tensor, time_step: int) -> Tensor:
        return torch.tanh(matrix @ before + inputs[time_step])

    jacobians = trajectory_jacobians(step, torch.zeros(width, dtype=torch.float64), _FOLLOWED)
    return MatrixRun(
        name,
        gain,
        float(spectral_radius(matrix)),
        float(spectral_norm(matrix)),
        float(lyapunov_exponents(jacobians, count=1)[0]),
    )


def _learned(cell: str, length: int, max_norm: float, before: float) -> Learned:
    model = _fresh(cell)
    clipped, error = train(model, length, _STEPS, max_norm)
    after = _remembered(model, cell, _PROBED).horizon
    return Learned(cell, length, clipped, error, before, after)


def _fresh(cell: str) -> Adder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Adder(cell)


def _exploding(length: int, max_norm: float) -> Exploding:
    """Follow an RNN whose recurrent weights start as an orthogonal matrix times 2."""
    model = _fresh("rnn")
    weight = model.recurrent.get_parameter("weight_hh_l0")
    torch.nn.init.orthogonal_(weight, 2.0, torch.Generator().manual_seed(0))
    batch = draw(16, length, torch.Generator().manual_seed(length))
    added = added_gradients(model, *batch)[::-1]
    norm = total_norm([torch.stack(added).sum(0)])
    factor = clip_coefficient(max_norm, norm)
    return Exploding(
        tuple(levels_bits(added).tolist()),
        tuple(levels_bits([factor * each for each in added]).tolist()),
        norm,
        factor,
    )


def _remembered(model: Adder, cell: str, length: int) -> Remembered:
    batch = draw(16, length, torch.Generator().manual_seed(length))
    deltas, gain = by_time_step(model, *batch)
    return Remembered(cell, length, deltas[::-1], gain.slope_bits, gain.memory_horizon)


def _curve(name: str, levels: Sequence[float]) -> Line:
    return Line(name, tuple(map(float, range(len(levels)))), tuple(levels))


def _steps(count: float) -> str:
    return "never" if count == math.inf else f"{count:.0f} steps"
