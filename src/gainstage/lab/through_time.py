"""Recurrence: w^T, matrices, and what RNN, GRU and LSTM remember, before and after clipping."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gainstage.errors import ConfigError
from gainstage.lab.adding_task import BASELINE, CELLS, Adder, draw, train
from gainstage.lab.deep_net import MATRICES
from gainstage.lab.levels import counted, finite, log2, positive
from gainstage.lab.lyapunov import lyapunov_exponents
from gainstage.lab.sheet import Figure, Line, Sheet, Shown, Table, bits, number, share
from gainstage.lab.time_steps import TimeProfile, by_time_step
from gainstage.lab.watched import Tell, quiet
from gainstage.norms.clip import clip_coefficient

WEIGHTS = (1.01, 0.99, 1.2, 1.0)
LENGTHS = (10, 100, 1000)
TRAINED = (10, 30, 100)
_STEPS = 150
_PROBED = 200
"""Time steps over which the memory horizon of a trained net is measured."""
_GAINS = (0.9, 1.0, 1.1)


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
    """One cell at one length, with its gradient clipped and not."""

    profile: TimeProfile
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
class Recurrent(Shown):
    """Everything about recurrence."""

    time_steps: int
    max_norm: float
    powers: tuple[Power, ...]
    matrices: tuple[MatrixRun, ...]
    cells: tuple[Remembered, ...]
    exploding: Remembered
    learned: tuple[Learned, ...]

    def sheet(self) -> Sheet:
        """Return recurrence as text, tables and pictures."""
        return Sheet(
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
                    bits(log2(abs(p.gradient))),
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
                    each.profile.cell,
                    str(each.profile.length),
                    f"{each.profile.slope_bits:+.3f}",
                    _steps(each.profile.horizon),
                    f"2^{each.profile.delta_bits[-1]:.0f}"
                    if math.isfinite(each.profile.delta_bits[-1])
                    else "0",
                )
                for each in self.cells
            ),
            "memory horizon: time steps until δ has fallen by the 24 bits that float32 resolves",
        )

    def _picture(self) -> Figure:
        longest = max(each.profile.length for each in self.cells)
        shown = [each for each in self.cells if each.profile.length == longest]
        return Figure(
            "δ by distance from the end of the sequence",
            "time steps back",
            "bits",
            tuple(_curve(e.profile.cell, e.profile.delta_bits[:300]) for e in shown),
            note="further back than drawn, δ goes on as it went",
        )

    def _clipped(self) -> Figure:
        each = self.exploding
        shift = log2(each.coefficient)
        before = each.profile.grad_bits
        after = tuple(level + shift for level in before)
        return Figure(
            f"What each time step adds to the gradient of an exploding RNN, and what a clip at "
            f"{number(self.max_norm)} leaves",
            "time steps back",
            "bits",
            (_curve("before the clip", before), _curve("after the clip", after)),
            note=f"norm 2^{log2(each.grad_norm):.0f}, factor 2^{shift:.0f}: the whole curve is "
            f"moved down by {-shift:.0f} bits, and no time step gains on another: the recent end "
            "now adds next to nothing. Clipping bounds the step; it brings nothing back.",
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
    tell: Tell = quiet,
) -> Recurrent:
    """Measure gradients through time: numbers, matrices, cells, and trainings under clipping.

    Args:
        weights: Numbers whose powers are taken.
        time_steps: How often, 1 to 5000.
        max_norm: Threshold of the clips, above 0.
        training: Whether to train as well (some ten seconds).
        tell: Hears what is being done.

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
        tell(f"{cell}: gradients of up to {max(LENGTHS)} time steps")
        cells += [_remembered(_fresh(cell), cell, length, max_norm) for length in LENGTHS]
    learned: list[Learned] = []
    for cell in CELLS if training else ():
        tell(f"{cell}: training on the adding task")
        learned += [_learned(cell, length, max_norm) for length in TRAINED]
    exploding = _remembered(_exploding(), "rnn", 100, max_norm)
    return Recurrent(
        time_steps, max_norm, powers, matrices, tuple(cells), exploding, tuple(learned)
    )


def power(weight: float, time_steps: int) -> Power:
    """Return the gradient through `time_steps` multiplications by one number, by autograd."""
    start = torch.ones((), dtype=torch.float64, requires_grad=True)
    state = start
    for _ in range(time_steps):
        state = weight * state
    (gradient,) = torch.autograd.grad(state, start)
    gain = log2(abs(weight))
    top = math.log2(torch.finfo(torch.float32).max)
    after = math.floor(top / gain) + 1.0 if gain > 0 else math.inf
    return Power(weight, time_steps, gradient.item(), after)


def _matrix(name: str, gain: float, width: int = 64) -> MatrixRun:
    generator = torch.Generator().manual_seed(0)
    matrix = MATRICES[name](width, gain, generator).double()
    radius = float(torch.linalg.eigvals(matrix).abs().max())
    singular = float(torch.linalg.matrix_norm(matrix, 2))
    inputs = 0.1 * torch.randn(200, width, generator=generator).double()
    return MatrixRun(name, gain, radius, singular, lyapunov_exponents(matrix, inputs, 1)[0])


def _learned(cell: str, length: int, max_norm: float) -> Learned:
    model = _fresh(cell)
    before = _remembered(model, cell, _PROBED, max_norm).profile.horizon
    clipped, error = train(model, length, _STEPS, max_norm)
    after = _remembered(model, cell, _PROBED, max_norm).profile.horizon
    return Learned(cell, length, clipped, error, before, after)


def _fresh(cell: str) -> Adder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Adder(cell)


def _exploding() -> Adder:
    """Return an RNN whose recurrent weights start as an orthogonal matrix times 2."""
    model = _fresh("rnn")
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.nn.init.orthogonal_(model.recurrent.get_parameter("weight_hh_l0"), gain=2.0)
    return model


def _remembered(model: Adder, cell: str, length: int, max_norm: float) -> Remembered:
    inputs, sums = draw(16, length, torch.Generator().manual_seed(length))
    found = by_time_step(model, cell, inputs, sums)
    model.zero_grad()
    torch.nn.functional.mse_loss(model(inputs), sums).backward()
    grad = model.recurrent.get_parameter("weight_hh_l0").grad
    norm = 0.0 if grad is None else float(grad.double().norm())
    return Remembered(found, norm, clip_coefficient(max_norm, norm))


def _curve(name: str, levels: Sequence[float]) -> Line:
    return Line(name, tuple(map(float, range(len(levels)))), tuple(levels))


def _steps(count: float) -> str:
    return "never" if count == math.inf else f"{count:.0f} steps"
