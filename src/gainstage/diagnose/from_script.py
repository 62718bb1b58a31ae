"""Evidence from what the script does: the order of its calls, its settings, its loss."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gainstage.facts.observation import Observation
from gainstage.facts.record import RankRecord

_SUMMED = 8
"""Elements from which on a sum is another loss than a mean."""
_FAR_BITS = 6.0


def script_evidence(record: RankRecord) -> Iterator[tuple[str, str]]:
    """Yield rows of the evidence table, with words."""
    yield from _clipping(record)
    left = record.first("gradient-not-zeroed")
    if left is not None:
        tensors, of = left.evidence.get("tensors"), left.evidence.get("of")
        yield (
            "gradients-not-zeroed",
            f"{tensors} of {of} gradients of the step before were still there as backward began "
            f"at step {left.step}, line {left.line}",
        )
    unheld = record.first("parameters-unheld")
    # What nothing steps makes no NaN: a first wrong operation has a cause of its own.
    if unheld is not None and record.fault is None:
        tensors, of = unheld.evidence.get("tensors"), unheld.evidence.get("of")
        yield (
            "parameters-unheld",
            f"{tensors} of {of} tensors of the network are in no optimizer, and were made after it",
        )
    loss = record.first("loss")
    if loss is not None and loss.evidence.get("reduction") == "sum":
        count = loss.evidence.get("summed_elements", 1)
        if count >= _SUMMED:
            yield "loss-is-a-sum", f"the loss is a sum over {count:,} elements, not their mean"
    elif loss is not None and loss.evidence.get("reduction") == "mean":
        yield "loss-is-a-mean", "the loss is a mean"
    many = record.first("accumulation")
    if many is not None and not many.evidence.get("divided"):
        calls = many.evidence.get("calls", 1)
        yield (
            "accumulates-undivided",
            f"{calls} or more backward calls add up for one step, and the loss is not divided",
        )
    norm = record.first("batch-norm")
    if norm is not None:
        values = norm.evidence.get("values")
        yield (
            "batch-too-small-for-statistics",
            f"a batch norm takes its statistics from {values} values a channel",
        )
    losses = record.block.loss[np.isfinite(record.block.loss)]
    is_loss = bool(len(losses)) and float(losses.min()) >= 0
    for made in record.by_kind.get("optimizer", []):
        yield from _settings(made, is_loss=is_loss)


def _clipping(record: RankRecord) -> Iterator[tuple[str, str]]:
    late = record.first("clip-after-step")
    if late is not None:
        yield (
            "clips-after-step",
            f"line {late.line} clips after the optimizer has stepped, so nothing is held",
        )
    scaled = record.first("clip-scaled")
    if scaled is not None:
        yield (
            "clips-scaled-gradients",
            f"line {scaled.line} clips gradients that still hold the loss scale",
        )
    nothing = record.first("clip-nothing")
    if nothing is not None:
        yield (
            "clips-nothing",
            f"line {nothing.line} clips nothing: what it is given holds no parameter with a "
            "gradient, as an iterator that was used up by then",
        )
    part = record.first("clip-partial")
    if part is not None:
        clipped, stepped = part.evidence.get("parameters"), part.evidence.get("stepped")
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


def _settings(made: Observation, *, is_loss: bool) -> Iterator[tuple[str, str]]:
    settings: dict[str, Any] = made.evidence.get("settings") or {}
    name = made.evidence.get("class", "the optimizer")
    if settings.get("eps") == 0:
        yield "eps-is-zero", f"{name} has eps=0, line {made.line}"
    momentum = settings.get("momentum")
    betas = settings.get("betas") or ()
    decay = settings.get("weight_decay")
    wrong = [
        f"momentum={momentum:g}" if isinstance(momentum, (int, float)) and momentum >= 1 else "",
        f"betas={betas}" if any(isinstance(b, (int, float)) and b >= 1 for b in betas) else "",
        "maximize=True" if settings.get("maximize") is True and is_loss else "",
        f"weight_decay={decay:g}" if isinstance(decay, (int, float)) and decay < 0 else "",
    ]
    said = ", ".join(filter(None, wrong))
    if said:
        yield "settings-out-of-range", f"{name} has {said}, line {made.line}"
