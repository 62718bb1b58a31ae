"""Evidence from what the script does: the order of its calls, its settings, its loss."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from gainstage.diagnose.evidence.piece import Piece, Plain
from gainstage.facts.observation import (
    BatchNormOfFew,
    ClipAfterStep,
    ClipNothing,
    ClipPartial,
    ClipScaled,
    GradientsAccumulated,
    GradientsNotZeroed,
    LossMade,
    Observation,
    OptimizerMade,
    OptimizerSettings,
    ParametersUnstepped,
)
from gainstage.facts.record import RankRecord

_SUMMED = 8
"""Elements from which on a sum is another loss than a mean."""
_FAR_BITS = 6.0
_MEAN = Plain("loss-is-a-mean", "the loss is a mean")


@dataclass(frozen=True, slots=True)
class NotZeroed:
    """Gradients of an earlier step were still there as backward began."""

    id: str = field(default="gradients-not-zeroed", init=False)
    tensors: int
    of: int
    step: int
    line: int | None

    @property
    def text(self) -> str:
        """The sentence for people."""
        return (
            f"{self.tensors} of {self.of} gradients of the step before were still there as "
            f"backward began at step {self.step}, line {self.line}"
        )


@dataclass(frozen=True, slots=True)
class Unstepped:
    """Parameters are in no optimizer, and were made after it."""

    id: str = field(default="parameters-unheld", init=False)
    tensors: int
    of: int

    @property
    def text(self) -> str:
        """The sentence for people."""
        return (
            f"{self.tensors} of {self.of} tensors of the network are in no optimizer, and were "
            "made after it"
        )


@dataclass(frozen=True, slots=True)
class LossSummed:
    """The loss is a sum over many elements."""

    id: str = field(default="loss-is-a-sum", init=False)
    elements: int

    @property
    def text(self) -> str:
        """The sentence for people."""
        return f"the loss is a sum over {self.elements:,} elements, not their mean"


@dataclass(frozen=True, slots=True)
class Undivided:
    """Several backward calls add up for one step, and the loss is not divided."""

    id: str = field(default="accumulates-undivided", init=False)
    calls: int

    @property
    def text(self) -> str:
        """The sentence for people."""
        return (
            f"{self.calls} or more backward calls add up for one step, and the loss is not divided"
        )


@dataclass(frozen=True, slots=True)
class SmallBatch:
    """A batch norm takes its statistics from few values."""

    id: str = field(default="batch-too-small-for-statistics", init=False)
    values: int

    @property
    def text(self) -> str:
        """The sentence for people."""
        return f"a batch norm takes its statistics from {self.values} values a channel"


@dataclass(frozen=True, slots=True)
class ClipsLate:
    """The script clips after the optimizer has stepped."""

    id: str = field(default="clips-after-step", init=False)
    line: int | None

    @property
    def text(self) -> str:
        """The sentence for people."""
        return f"line {self.line} clips after the optimizer has stepped, so nothing is held"


@dataclass(frozen=True, slots=True)
class ClipsScaled:
    """The script clips gradients that still hold the loss scale."""

    id: str = field(default="clips-scaled-gradients", init=False)
    line: int | None

    @property
    def text(self) -> str:
        """The sentence for people."""
        return f"line {self.line} clips gradients that still hold the loss scale"


@dataclass(frozen=True, slots=True)
class ClipsNothing:
    """The script clips a list without gradients."""

    id: str = field(default="clips-nothing", init=False)
    line: int | None

    @property
    def text(self) -> str:
        """The sentence for people."""
        return (
            f"line {self.line} clips nothing: what it is given holds no parameter with a gradient, "
            "as an iterator that was used up by then"
        )


@dataclass(frozen=True, slots=True)
class ClipsPart:
    """The script clips some of the gradients that the optimizer steps with."""

    id: str = field(default="clips-part", init=False)
    line: int | None
    clipped: int
    stepped: int

    @property
    def text(self) -> str:
        """The sentence for people."""
        return f"line {self.line} clips {self.clipped} of the {self.stepped} tensors stepped"


@dataclass(frozen=True, slots=True)
class LimitOutOfReach:
    """The script clips at a limit that no norm comes near."""

    id: str = field(default="clip-far-out-of-reach", init=False)
    above_bits: float
    """The limit above the largest norm."""

    @property
    def text(self) -> str:
        """The sentence for people."""
        return f"max_norm lies {self.above_bits:.0f} bits above the largest norm: it never acts"


@dataclass(frozen=True, slots=True)
class NoEps:
    """An optimizer was made with an eps of 0."""

    id: str = field(default="eps-is-zero", init=False)
    optimizer: str
    line: int | None

    @property
    def text(self) -> str:
        """The sentence for people."""
        return f"{self.optimizer} has eps=0, line {self.line}"


@dataclass(frozen=True, slots=True)
class SettingsOutOfRange:
    """Settings of an optimizer let the weights grow without end."""

    id: str = field(default="settings-out-of-range", init=False)
    optimizer: str
    line: int | None
    settings: str
    """As in its call."""

    @property
    def text(self) -> str:
        """The sentence for people."""
        return f"{self.optimizer} has {self.settings}, line {self.line}"


def script_evidence(record: RankRecord) -> Iterator[Piece]:
    """Yield evidence from the calls that the script was seen to make."""
    yield from _clipping(record)
    left = record.first(GradientsNotZeroed)
    if left is not None:
        yield NotZeroed(left.evidence.tensors, left.evidence.of, left.step, left.line)
    unstepped = record.first(ParametersUnstepped)
    # What nothing steps makes no NaN: a first wrong operation has a cause of its own.
    if unstepped is not None and record.fault is None:
        yield Unstepped(unstepped.evidence.tensors, unstepped.evidence.of)
    yield from _loss(record.first(LossMade))
    many = record.first(GradientsAccumulated)
    if many is not None and not many.evidence.divided:
        yield Undivided(many.evidence.calls)
    norm = record.first(BatchNormOfFew)
    if norm is not None:
        yield SmallBatch(norm.evidence.values)
    losses = record.block.loss[np.isfinite(record.block.loss)]
    is_loss = bool(len(losses)) and float(losses.min()) >= 0
    for made in record.observed(OptimizerMade):
        yield from _settings(made, is_loss=is_loss)


def _loss(loss: Observation[LossMade] | None) -> Iterator[Piece]:
    if loss is None:
        return
    if loss.evidence.reduction == "mean":
        yield _MEAN
    elif loss.evidence.reduction == "sum" and loss.evidence.summed_elements >= _SUMMED:
        yield LossSummed(loss.evidence.summed_elements)


def _clipping(record: RankRecord) -> Iterator[Piece]:
    late = record.first(ClipAfterStep)
    if late is not None:
        yield ClipsLate(late.line)
    scaled = record.first(ClipScaled)
    if scaled is not None:
        yield ClipsScaled(scaled.line)
    nothing = record.first(ClipNothing)
    if nothing is not None:
        yield ClipsNothing(nothing.line)
    part = record.first(ClipPartial)
    if part is not None:
        yield ClipsPart(part.line, part.evidence.parameters, part.evidence.stepped)
    limits = record.block.max_norm
    active = np.isfinite(limits) & (record.block.clip_coefficient < 1.0)
    norms = record.block.grad_norm[np.isfinite(record.block.grad_norm)]
    limits = limits[np.isfinite(limits)]
    if len(limits) and not active.any() and len(norms):
        above = math.log2(float(np.median(limits))) - math.log2(max(float(norms.max()), 1e-300))
        if above >= _FAR_BITS:
            yield LimitOutOfReach(above)


def _settings(made: Observation[OptimizerMade], *, is_loss: bool) -> Iterator[Piece]:
    settings, name = made.evidence.settings, made.evidence.class_name
    if settings.eps == 0:
        yield NoEps(name, made.line)
    wrong = _out_of_range(settings, is_loss=is_loss)
    if wrong:
        yield SettingsOutOfRange(name, made.line, wrong)


def _out_of_range(settings: OptimizerSettings, *, is_loss: bool) -> str:
    momentum, betas, decay = settings.momentum, settings.betas or (), settings.weight_decay
    wrong = [
        f"momentum={momentum:g}" if momentum is not None and momentum >= 1 else "",
        f"betas={list(betas)}" if any(b is not None and b >= 1 for b in betas) else "",
        "maximize=True" if settings.maximize and is_loss else "",
        f"weight_decay={decay:g}" if decay is not None and decay < 0 else "",
    ]
    return ", ".join(filter(None, wrong))
