"""What detectors are fed with, and the running series of the steps that they share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from gainstage.detect.series.history import History
from gainstage.detect.series.loss_range import LossRange
from gainstage.detect.series.weight_history import WeightHistory
from gainstage.facts.blocks import StepBlock, WeightBlock
from gainstage.facts.observation import Observation, Observed
from gainstage.facts.tensor import TensorInfo


@dataclass(slots=True)
class StepSeries:
    """Series of the steps that had gradients for the same tensors: one optimizer's of several."""

    norm: History = field(default_factory=History)
    """log2 of the global gradient norm."""
    loss: History = field(default_factory=History)
    fall: History = field(default_factory=History)
    """By how much the updates so far can have lowered the loss: a value for each, while known."""
    fallen: float = 0.0
    loss_range: LossRange = field(default_factory=LossRange)

    def push_loss(self, step: int, loss: float) -> None:
        """Take the finite loss of the next step."""
        self.loss.push(step, loss)
        if math.isfinite(self.fallen):
            self.fall.push(step, self.fallen)
        self.loss_range.judge(self.loss)


@dataclass(frozen=True, slots=True)
class StepInput:
    """One step, with the series up to it."""

    step: int
    loss: float
    """NaN where there is none."""
    lr: float
    """Not finite where there is none."""
    norm_bits: float
    """log2 of the global gradient norm; not finite where there is none, or it is 0."""
    update_ratio_bits: float
    """log2 of lr·c·‖g‖/‖w‖, c being the clip coefficient: NaN before the weights were sampled."""
    adam_update_ratio: float
    """Usual norm of an update of Adam or its kin over the weights'; NaN for other optimizers."""
    inputs: float
    """Inputs of a unit: the mean over all elements of weight matrices."""
    dtype: str
    """The watched one that will overflow first."""
    series: StepSeries


@dataclass(frozen=True, slots=True)
class BlockInput:
    """A block of steps as it arrived."""

    block: StepBlock
    tensors: Sequence[TensorInfo]


@dataclass(frozen=True, slots=True)
class Chunk:
    """16 steps in a row, however they arrived; the last of a record may be missing."""

    block: StepBlock
    tensors: Sequence[TensorInfo]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Steps, one at least, between two samples of the weights."""

    block: StepBlock
    tensors: Sequence[TensorInfo]
    optimizers: Sequence[Observation[Observed]]
    """How optimizers were made, and how they stepped first."""


@dataclass(frozen=True, slots=True)
class WeightSample:
    """The norms of the weights at one step."""

    sample: WeightBlock
    """Of one row."""
    history: WeightHistory
    """This sample included, if it is kept."""
    is_kept: bool
    """Whether the sample joined the history, which is thinned out as it grows."""
    tensors: Sequence[TensorInfo]
