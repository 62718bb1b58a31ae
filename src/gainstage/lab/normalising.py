"""Normalisation: how much of a sample's gradient is noise from its companions in the batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gainstage.analysis.gain import levels_bits, slope_bits
from gainstage.errors import ConfigError
from gainstage.lab.topic import Topic
from gainstage.lab.topic_page import Figure, Line, Table, TopicPage, bits, share
from gainstage.lab.validate import counted
from gainstage.lab.watched_runs import Progress, quiet
from gainstage.treat.model.insert_norm import SMALLEST_BATCH

BATCHES = (2, 4, 8, 16, 32, 64, 128, 256)
LENGTHS = (1, 10, 30)
_DRAWS = 32
_WIDTH = 32
_LAYERS = 3
_RECURRENT_BATCH = 8


@dataclass(frozen=True, slots=True)
class Noise:
    """One sample's gradient over many draws of its companions."""

    norm: str
    batch: int
    noise: float
    """Root mean square deviation from the mean gradient, over the mean gradient's norm."""
    cosine: float
    """Mean cosine between the gradient of one draw and the mean gradient."""


@dataclass(frozen=True, slots=True)
class RecurrentNoise:
    """The same in a recurrent net that normalises at every time step."""

    norm: str
    length: int
    noise: float
    gap: float
    """Change of the output between training and evaluation, over the output's norm."""
    slope_bits: float
    """Of δ over time steps back."""


@dataclass(frozen=True, slots=True)
class NormTopic(Topic):
    """Everything about normalisation."""

    feedforward: tuple[Noise, ...]
    recurrent: tuple[RecurrentNoise, ...]

    def topic_page(self) -> TopicPage:
        """Return normalisation as text, tables and pictures."""
        return TopicPage(
            "norm",
            "Batch norm and layer norm: the noise of the companions",
            (
                "Batch norm makes a sample's gradient depend on whoever else is in the batch. "
                f"Here one sample stays, {_DRAWS} sets of companions come and go, and what "
                "changes is noise. Layer norm looks at the sample alone.",
                self._noise(),
                Figure(
                    "Noise over signal, by batch size",
                    "log2 of the batch size",
                    "noise / signal",
                    tuple(
                        Line(
                            name,
                            tuple(math.log2(n.batch) for n in self.feedforward if n.norm == name),
                            tuple(n.noise for n in self.feedforward if n.norm == name),
                        )
                        for name in NORMS
                    ),
                    (("noise as large as the signal", 1.0),),
                ),
                Table(
                    f"In a recurrent net, at every time step; batches of {_RECURRENT_BATCH}",
                    ("norm", "length", "noise", "train / eval gap", "δ, bits a step"),
                    tuple(
                        (
                            r.norm,
                            str(r.length),
                            share(r.noise),
                            share(r.gap),
                            bits(r.slope_bits) if r.length > 1 else "-",
                        )
                        for r in self.recurrent
                    ),
                    "gap: batch norm keeps one running mean for all time steps, so that in "
                    "evaluation it is another net than the one that was trained",
                ),
                f"The rule: batches below {SMALLEST_BATCH} or recurrence: layer norm instead.",
            ),
        )

    def _noise(self) -> Table:
        by = {(n.norm, n.batch): n for n in self.feedforward}
        batches = list(dict.fromkeys(n.batch for n in self.feedforward))
        return Table(
            f"Noise of one sample's gradient, {_LAYERS} layers of {_WIDTH} (cosine to the mean)",
            ("batch", *NORMS, "rule:"),
            tuple(
                (
                    str(batch),
                    *(f"{share(by[n, batch].noise)} ({by[n, batch].cosine:.2f})" for n in NORMS),
                    "too small" if batch < SMALLEST_BATCH else "",
                )
                for batch in batches
            ),
        )


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda width: nn.Identity(),
    "batch norm": nn.BatchNorm1d,
    "layer norm": nn.LayerNorm,
}


def norm(
    batches: tuple[int, ...] = BATCHES,
    lengths: tuple[int, ...] = LENGTHS,
    *,
    seed: int = 0,
    progress: Progress = quiet,
) -> NormTopic:
    """Measure the noise that a batch's companions bring into one sample's gradient.

    Args:
        batches: Batch sizes, at least 2.
        lengths: Sequence lengths of the recurrent net.
        seed: Of weights and data.
        progress: Called with a line about each longer computation.

    Raises:
        ConfigError: If a batch is smaller than 2, or a count out of range.
    """
    if not batches:
        raise ConfigError("name at least one batch size, such as 8")
    if any(batch < 2 for batch in batches):
        raise ConfigError(f"batch must be 2 or more: batch norm needs two values, got {batches}")
    for batch in batches:
        counted("batch", batch, 4096)
    for length in lengths:
        counted("steps", length, 500)
    progress("one sample among changing companions")
    flat = [_noise(name, batch, seed) for name in NORMS for batch in batches]
    progress("the same through time")
    through = [_recurrent(name, length, seed) for name in NORMS for length in lengths]
    return NormTopic(tuple(flat), tuple(through))


def _noise(name: str, batch: int, seed: int) -> Noise:
    generator = torch.Generator().manual_seed(seed)
    net = _net(name, generator)
    sample = torch.randn(1, _WIDTH, generator=generator)
    grads: list[Tensor] = []
    for _ in range(_DRAWS):
        others = torch.randn(batch - 1, _WIDTH, generator=generator)
        inputs = torch.cat([sample, others])
        net.zero_grad()
        net(inputs)[0].square().mean().backward()
        grads.append(_gradient(net))
    return Noise(name, batch, *_spread(torch.stack(grads)))


def _net(name: str, generator: torch.Generator) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(_LAYERS):
        linear = nn.Linear(_WIDTH, _WIDTH)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu", generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear, NORMS[name](_WIDTH), nn.ReLU()]
    last = nn.Linear(_WIDTH, 4)
    nn.init.kaiming_normal_(last.weight, nonlinearity="linear", generator=generator)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)


def _gradient(module: nn.Module) -> Tensor:
    """Return the gradients of all matrices as one vector."""
    grads = [p.grad for p in module.parameters() if p.ndim > 1 and p.grad is not None]
    return torch.cat([grad.flatten() for grad in grads]).double()


def _spread(grads: Tensor) -> tuple[float, float]:
    """Return (noise, mean cosine) of gradients, (draws, elements), around their mean."""
    mean = grads.mean(0)
    signal = float(mean.norm())
    deviation = math.sqrt(float((grads - mean).square().sum(1).mean()))
    cosines = (grads @ mean) / (grads.norm(dim=1) * signal)
    return deviation / signal, float(cosines.mean())


class _Cell(nn.Module):
    """h ← tanh(norm(W h + U x)): the same norm, with the same statistics, at every time step."""

    def __init__(self, name: str, generator: torch.Generator) -> None:
        super().__init__()
        self.recurrent = nn.Parameter(torch.empty(_WIDTH, _WIDTH))
        self.drive = nn.Parameter(torch.empty(_WIDTH, _WIDTH))
        nn.init.orthogonal_(self.recurrent, generator=generator)
        nn.init.xavier_normal_(self.drive, generator=generator)
        self.norm = NORMS[name](_WIDTH)

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Return the states of all time steps of inputs, (batch, length, width)."""
        state = torch.zeros(len(inputs), _WIDTH)
        states: list[Tensor] = []
        for time_step in range(inputs.shape[1]):
            drive = inputs[:, time_step] @ self.drive.T
            state = torch.tanh(self.norm(state @ self.recurrent.T + drive))
            states.append(state)
        return states


def _recurrent(name: str, length: int, seed: int) -> RecurrentNoise:
    generator = torch.Generator().manual_seed(seed)
    cell = _Cell(name, generator)
    # Numbers that grow over time, as sums and levels of text do: statistics differ by time step.
    ramp = torch.linspace(0.2, 2.0, length).view(1, length, 1)
    sample = torch.randn(1, length, _WIDTH, generator=generator) * ramp
    grads: list[Tensor] = []
    deltas: list[Tensor] = []
    others = sample
    for _ in range(_DRAWS):
        others = torch.randn(_RECURRENT_BATCH - 1, length, _WIDTH, generator=generator) * ramp
        cell.zero_grad()
        states = cell(torch.cat([sample, others]))
        for state in states:
            state.retain_grad()
        states[-1][0].square().mean().backward()
        grads.append(_gradient(cell))
        deltas = [state.grad for state in states[::-1] if state.grad is not None]
    with torch.no_grad():
        probe = torch.cat([sample, others])
        trained = cell(probe)[-1]
        cell.eval()
        evaluated = cell(probe)[-1]
    gap = float((trained - evaluated).norm() / trained.norm())
    slope = slope_bits(levels_bits(deltas))
    return RecurrentNoise(name, length, _spread(torch.stack(grads))[0], gap, slope)
