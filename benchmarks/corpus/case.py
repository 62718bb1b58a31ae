"""What a generated case is: a short training, its fault if it has one, and the loop they share."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

AFTER_NONFINITE = 4
"""Steps that a run goes on when its loss is no longer finite."""


@dataclass(frozen=True, slots=True)
class Training:
    """One training, ready to run."""

    run: Callable[[], None]
    settings: dict[str, object]
    """Depth, width, gain and whatever else was drawn, for who reads a miss."""
    fault_step: int = 0
    """The step at which the fault begins to act; an alarm before it is premature."""


Family = Callable[[random.Random, bool], Training]
"""Draws the training of a seed; with False the same one without the fault, its control."""


@dataclass(frozen=True, slots=True)
class Case:
    """One entry of the corpus."""

    family: str
    cause: str | None
    """An id of DESIGN 5; None where the training is healthy by construction."""
    seed: int
    control: bool = False
    """A faulty family's training without its fault."""

    @property
    def name(self) -> str:
        """Return a name that is a folder's as well."""
        return f"{self.family}-{self.seed}{'-control' if self.control else ''}"


@dataclass(slots=True)
class Loop:
    """The training loop of nearly all cases: loss, backward, clip, step."""

    parameters: list[nn.Parameter]
    optimizer: Optimizer
    loss_of: Callable[[int], Tensor]
    """The loss of a step; draws its own batch."""
    steps: int
    max_norm: float | None = None
    lr_of: Callable[[int], float] | None = None
    """The factor on the first learning rate at a step."""
    zero_grad: bool = True
    clip_after_step: bool = False
    micro_batches: int = 1
    """Backward calls for one step."""
    divide: bool = True
    """Whether each micro-batch's loss is divided by how many there are."""
    growth: float = 0.0
    """What the loop itself multiplies the weights by after each step, less 1: a decay by hand."""
    losses: list[float] = field(default_factory=list)
    """One a step, filled in training."""

    def __call__(self) -> None:
        """Train to the end, or a few steps beyond the first loss that is not finite."""
        rates = [group["lr"] for group in self.optimizer.param_groups]
        for step in range(self.steps):
            if self.lr_of is not None:
                for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * self.lr_of(step)
            if self.zero_grad:
                self.optimizer.zero_grad()
            for _ in range(self.micro_batches):
                loss = self.loss_of(step)
                if self.divide and self.micro_batches > 1:
                    loss = loss / self.micro_batches
                loss.backward()
            if self.max_norm is not None and not self.clip_after_step:
                nn.utils.clip_grad_norm_(self.parameters, self.max_norm)
            self.optimizer.step()
            if self.max_norm is not None and self.clip_after_step:
                nn.utils.clip_grad_norm_(self.parameters, self.max_norm)
            if self.growth:
                with torch.no_grad():
                    for parameter in self.parameters:
                        parameter.mul_(1 + self.growth)
            self.losses.append(loss.item())
            last = self.losses[-1 - AFTER_NONFINITE :]
            if len(last) > AFTER_NONFINITE and not any(map(math.isfinite, last)):
                return


def seeded(draw: random.Random) -> torch.Generator:
    """Seed torch for weights, and return a generator for batches."""
    torch.manual_seed(draw.randrange(2**31))
    return torch.Generator().manual_seed(draw.randrange(2**31))


def log_uniform(draw: random.Random, low: float, high: float) -> float:
    """Return a number whose logarithm is uniform."""
    return math.exp(draw.uniform(math.log(low), math.log(high)))
