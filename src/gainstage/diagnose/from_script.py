"""Evidence from what the script does: the order of its calls, its settings, its loss."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

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
    ParametersUnstepped,
)
from gainstage.facts.record import RankRecord

_SUMMED = 8
"""Elements from which on a sum is another loss than a mean."""
_FAR_BITS = 6.0


def script_evidence(record: RankRecord) -> Iterator[tuple[str, str]]:
    """Yield rows of the evidence table, with words."""
    yield from _clipping(record)
    left = record.first(GradientsNotZeroed)
    if left is not None:
        tensors, of = left.evidence.tensors, left.evidence.of
        yield (
            "gradients-not-zeroed",
            f"{tensors} of {of} gradients of the step before were still there as backward began "
            f"at step {left.step}, line {left.line}",
        )
    unheld = record.first(ParametersUnstepped)
    # What nothing steps makes no NaN: a first wrong operation has a cause of its own.
    if unheld is not None and record.fault is None:
        tensors, of = unheld.evidence.tensors, unheld.evidence.of
        yield (
            "parameters-unheld",
            f"{tensors} of {of} tensors of the network are in no optimizer, and were made after it",
        )
    loss = record.first(LossMade)
    if loss is not None and loss.evidence.reduction == "sum":
        count = loss.evidence.summed_elements
        if count >= _SUMMED:
            yield "loss-is-a-sum", f"the loss is a sum over {count:,} elements, not their mean"
    elif loss is not None and loss.evidence.reduction == "mean":
        yield "loss-is-a-mean", "the loss is a mean"
    many = record.first(GradientsAccumulated)
    if many is not None and not many.evidence.divided:
        calls = many.evidence.calls
        yield (
            "accumulates-undivided",
            f"{calls} or more backward calls add up for one step, and the loss is not divided",
        )
    norm = record.first(BatchNormOfFew)
    if norm is not None:
        values = norm.evidence.values
        yield (
            "batch-too-small-for-statistics",
            f"a batch norm takes its statistics from {values} values a channel",
        )
    losses = record.block.loss[np.isfinite(record.block.loss)]
    is_loss = bool(len(losses)) and float(losses.min()) >= 0
    for made in record.observed(OptimizerMade):
        yield from _settings(made, is_loss=is_loss)


def _clipping(record: RankRecord) -> Iterator[tuple[str, str]]:
    late = record.first(ClipAfterStep)
    if late is not None:
        yield (
            "clips-after-step",
            f"line {late.line} clips after the optimizer has stepped, so nothing is held",
        )
    scaled = record.first(ClipScaled)
    if scaled is not None:
        yield (
            "clips-scaled-gradients",
            f"line {scaled.line} clips gradients that still hold the loss scale",
        )
    nothing = record.first(ClipNothing)
    if nothing is not None:
        yield (
            "clips-nothing",
            f"line {nothing.line} clips nothing: what it is given holds no parameter with a "
            "gradient, as an iterator that was used up by then",
        )
    part = record.first(ClipPartial)
    if part is not None:
        clipped, stepped = part.evidence.parameters, part.evidence.stepped
        yield "clips-part", f"line {part.line} clips {clipped} of the {stepped} tensors stepped"
    limits = record.block.max_norm
    active = np.isfinite(limits) & (record.block.clip_coefficient < 1.0)
    norms = record.block.grad_norm[np.isfinite(record.block.grad_norm)]
    given = limits[np.isfinite(limits)]
    if len(given) and not active.any() and len(norms):
        above = math.log2(float(np.median(given))) - math.log2(max(float(norms.max()), 1e-300))
        if above >= _FAR_BITS:
            yield (
                "clip-far-out-of-reach",
                f"max_norm lies {above:.0f} bits above the largest norm: it never acts",
            )


def _settings(made: Observation[OptimizerMade], *, is_loss: bool) -> Iterator[tuple[str, str]]:
    settings, name = made.evidence.settings, made.evidence.class_name
    if settings.eps == 0:
        yield "eps-is-zero", f"{name} has eps=0, line {made.line}"
    momentum, betas, decay = settings.momentum, settings.betas or (), settings.weight_decay
    wrong = [
        f"momentum={momentum:g}" if momentum is not None and momentum >= 1 else "",
        f"betas={list(betas)}" if any(b is not None and b >= 1 for b in betas) else "",
        "maximize=True" if settings.maximize and is_loss else "",
        f"weight_decay={decay:g}" if decay is not None and decay < 0 else "",
    ]
    said = ", ".join(filter(None, wrong))
    if said:
        yield "settings-out-of-range", f"{name} has {said}, line {made.line}"
