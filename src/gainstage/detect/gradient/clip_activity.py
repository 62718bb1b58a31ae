"""`clip-saturated` and `clip-idle`: a limit that always acts, or never does.

A clip that always acts replaces the learning rate: its median coefficient says by how much. If that
is less than a thousandth, and the loss is where it was at the start, the training stands still.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gainstage.detect.series.sign import Sign
from gainstage.facts.blocks import StepBlock
from gainstage.facts.symptom import Severity

_PIECES = 8
_SATURATED = 0.9
_TINY = 0.1
_STARVED = 1e-3
_LEARNT = 0.1
"""Of the loss at the start, how far from it the loss is where something was learned."""
_IDLE_STEPS = 256
_IDLE_RATIO = 10.0


@dataclass(slots=True)
class Clip:
    """Online state: coefficients of the last 128 steps, and the largest norm ever offered."""

    coefficients: deque[Any] = field(default_factory=lambda: deque[Any](maxlen=_PIECES))
    losses: deque[Any] = field(default_factory=lambda: deque[Any](maxlen=_PIECES))
    start: float = math.nan
    """Median of the first piece's losses."""
    steps: int = 0
    active: int = 0
    largest: float = 0.0


def look(state: Clip, piece: StepBlock) -> list[Sign]:
    """Return the signs of one piece of the record; a limit of inf is a norm reader, no clip."""
    given = ~np.isnan(piece.clip_coefficient) & np.isfinite(piece.max_norm) & (piece.skipped >= 0)
    coefficients = piece.clip_coefficient[given]
    if not len(coefficients):
        return []
    norms = piece.grad_norm[given]
    losses = piece.loss[piece.has_loss]
    if len(losses):
        state.losses.append(losses)
        state.start = float(np.median(losses)) if math.isnan(state.start) else state.start
    state.coefficients.append(coefficients)
    state.steps += len(coefficients)
    state.active += int((coefficients < 1.0).sum())
    state.largest = max(state.largest, float(np.max(norms, initial=0.0, where=np.isfinite(norms))))
    limit, step = float(piece.max_norm[given][-1]), int(piece.step[-1])
    found = [_saturated(state, step, limit), _idle(state, step, limit, len(coefficients))]
    return [sign for sign in found if sign is not None]


def _saturated(state: Clip, step: int, limit: float) -> Sign | None:
    if len(state.coefficients) < _PIECES:
        return None
    recent = np.concatenate(list(state.coefficients))
    share, middle = float((recent < 1.0).mean()), float(np.median(recent))
    if share < _SATURATED or middle > 0.5:
        return None
    lost = f"{1 / middle:.3g} times lower" if middle > 0 else "zero"
    severity: Severity = "warning" if middle < _TINY else "info"
    if middle <= _STARVED and state.losses:
        level = float(np.median(np.concatenate(list(state.losses))))
        if abs(level - state.start) <= _LEARNT * abs(state.start):
            severity = "critical"
            lost += f", and nothing is learned: the loss stands at {level:.3g}"
    return Sign(
        "clip-saturated",
        "gradient",
        severity,
        step,
        f"the clip at {limit:.3g} acted on {share:.0%} of the last {len(recent)} steps: the "
        f"effective learning rate is {lost}",
        last_step=step,
        evidence={"share_clipped": share, "median_coefficient": middle, "max_norm": limit},
    )


def _idle(state: Clip, step: int, limit: float, new: int) -> Sign | None:
    before = state.steps - new
    if state.active or before >= _IDLE_STEPS:
        return None
    if state.steps < _IDLE_STEPS or limit < _IDLE_RATIO * state.largest or state.largest == 0:
        return None
    return Sign(
        "clip-idle",
        "gradient",
        "info",
        step,
        f"the clip at {limit:.3g} has not acted in {state.steps} steps: the largest norm was "
        f"{state.largest:.3g}",
        last_step=step,
        evidence={"max_norm": limit, "largest_norm": state.largest, "steps": state.steps},
    )
