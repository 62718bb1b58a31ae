"""The detectors that look at every step, and those that look at 16 at a time, with their states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from gainstage.detect.gradient import (
    clip_activity,
    gradient_growth,
    gradient_imbalance,
    gradient_norm,
    gradient_spike,
    gradient_vanishing,
)
from gainstage.detect.level import overflow_forecast
from gainstage.detect.loss import loss_divergence
from gainstage.detect.series import chunks
from gainstage.detect.series.history import History
from gainstage.detect.series.sign import Sign
from gainstage.detect.series.trend import LARGEST
from gainstage.detect.update import step_skipped, update_spike
from gainstage.facts.blocks import StepBlock
from gainstage.facts.tensor import TensorInfo


@dataclass(slots=True)
class Group:
    """The steps that had gradients for the same tensors: one optimizer's of several."""

    norm: History = field(default_factory=History)
    loss: History = field(default_factory=History)
    fall: History = field(default_factory=History)
    """By how much the updates so far can have lowered the loss: a value for each, while known."""
    fallen: float = 0.0
    growth: gradient_growth.Growth = field(default_factory=gradient_growth.Growth)
    level: gradient_norm.Level = field(default_factory=gradient_norm.Level)
    spike: gradient_spike.Spike = field(default_factory=gradient_spike.Spike)
    divergence: loss_divergence.Divergence = field(default_factory=loss_divergence.Divergence)
    update: update_spike.Update = field(default_factory=update_spike.Update)
    rate: update_spike.Rate = field(default_factory=update_spike.Rate)
    forecast: overflow_forecast.Watched = field(default_factory=overflow_forecast.Watched)


@dataclass(slots=True)
class Pieces:
    """What is judged 16 steps at a time, over all tensors, whichever optimizer's they are."""

    chunks: chunks.Chunks = field(default_factory=chunks.Chunks)
    vanishing: gradient_vanishing.Vanishing = field(default_factory=gradient_vanishing.Vanishing)
    imbalance: gradient_imbalance.Imbalance = field(default_factory=gradient_imbalance.Imbalance)
    clip: clip_activity.Clip = field(default_factory=clip_activity.Clip)
    skipped: step_skipped.Skipped = field(default_factory=step_skipped.Skipped)


def signs_of_row(
    group: Group,
    step: int,
    bit: float,
    loss: float,
    lr: float,
    ratio: float,
    fall: float,
    dtype: str,
) -> list[Sign]:
    """Return what one step shows.

    Args:
        group: Of the tensors that the step had gradients for; changed.
        step: Its number.
        bit: log2 of the global norm; not finite where there is none.
        loss: Not finite where there is none.
        lr: Not finite where there is none.
        ratio: log2 of lr·c·‖g‖/‖w‖, NaN before the weights have been sampled.
        fall: By how much the step's update can lower the loss; inf where that is not known.
        dtype: The one that will overflow first.
    """
    found: list[Sign | None] = [update_spike.look_at_rate(group.rate, lr, step)]
    if math.isfinite(loss):
        group.loss.push(step, loss)
        if math.isfinite(group.fallen):
            group.fall.push(step, group.fallen)
        found.append(
            loss_divergence.look(group.divergence, group.loss, step, group.norm, group.fall)
        )
    group.fallen += fall
    if math.isfinite(bit):
        norm = group.norm
        norm.push(step, bit)
        found += [
            gradient_growth.look(group.growth, norm, step),
            gradient_norm.look(group.level, norm, step, loss),
            gradient_spike.look(group.spike, norm, group.loss, step),
            overflow_forecast.look(group.forecast, norm, math.log2(LARGEST[dtype]), dtype, step),
            update_spike.look(
                group.update, norm, ratio_bits=ratio, is_loss_out=group.divergence.is_out, step=step
            ),
        ]
    return [sign for sign in found if sign is not None]


def signs_of_piece(pieces: Pieces, piece: StepBlock, tensors: Sequence[TensorInfo]) -> list[Sign]:
    """Return what 16 steps show, over all tensors."""
    found = [
        gradient_imbalance.look(pieces.imbalance, piece, tensors),
        step_skipped.look(pieces.skipped, piece),
        *gradient_vanishing.look(pieces.vanishing, piece, tensors),
        *clip_activity.look(pieces.clip, piece),
    ]
    return [sign for sign in found if sign is not None]
