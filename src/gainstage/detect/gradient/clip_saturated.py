"""`clip-saturated`: a clip that always acts, and so replaces the learning rate.

Its median coefficient says by how much. If that is less than a thousandth, and the loss is where it
was at the start, the training stands still.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gainstage.detect.kind.inputs import Chunk
from gainstage.detect.kind.symptom_kind import Detector, DocRow, Signal, Signals, SymptomKind
from gainstage.facts.blocks import StepBlock
from gainstage.facts.ranges import OMIT
from gainstage.facts.symptom import Severity

_CHUNKS = 8
_SATURATED = 0.9
_TINY = 0.1
_STARVED = 1e-3
_LEARNT = 0.1
"""Of the loss at the start, how far from it the loss is where something was learned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSaturatedEvidence:
    """How often the clip acted of late, and how much of the gradient it left."""

    share_clipped: float
    """Of the steps, 0 to 1."""
    median_coefficient: float
    max_norm: float
    window_steps: int
    stuck_loss: float | None = field(default=None, metadata=OMIT)
    """The loss, where it is the one of the start and nothing is learned."""


def message(evidence: ClipSaturatedEvidence) -> str:
    """Return the sentence for people."""
    middle = evidence.median_coefficient
    lost = f"{1 / middle:.3g} times lower" if middle > 0 else "zero"
    if evidence.stuck_loss is not None:
        lost += f", and nothing is learned: the loss stands at {evidence.stuck_loss:.3g}"
    return (
        f"the clip at {evidence.max_norm:.3g} acted on {evidence.share_clipped:.0%} of the last "
        f"{evidence.window_steps} steps: the effective learning rate is {lost}"
    )


def clipped_steps(block: StepBlock) -> NDArray[np.bool_]:
    """Return which steps had a clip; a limit of inf is a norm reader, no clip."""
    has_clip = ~np.isnan(block.clip_coefficient) & np.isfinite(block.max_norm)
    return has_clip & (block.skipped >= 0)


@dataclass(slots=True)
class Saturation:
    """State: coefficients and losses of the last 128 steps."""

    coefficients: deque[Any] = field(default_factory=lambda: deque[Any](maxlen=_CHUNKS))
    losses: deque[Any] = field(default_factory=lambda: deque[Any](maxlen=_CHUNKS))
    start: float = math.nan
    """Median of the first chunk's losses."""


def update(state: Saturation, chunk: Chunk) -> tuple[Saturation, Signals]:
    """Return a signal where the clip acted on nine tenths of the last steps, and much."""
    block = chunk.block
    rows = clipped_steps(block)
    if not rows.any():
        return state, ()
    losses = block.loss[block.has_loss]
    if len(losses):
        state.losses.append(losses)
        state.start = float(np.median(losses)) if math.isnan(state.start) else state.start
    state.coefficients.append(block.clip_coefficient[rows])
    if len(state.coefficients) < _CHUNKS:
        return state, ()
    recent = np.concatenate(list(state.coefficients))
    share, middle = float((recent < 1.0).mean()), float(np.median(recent))
    if share < _SATURATED or middle > 0.5:
        return state, ()
    stuck = _stuck_loss(state) if middle <= _STARVED else None
    severity: Severity = "warning" if middle < _TINY else "info"
    evidence = ClipSaturatedEvidence(
        share_clipped=share,
        median_coefficient=middle,
        max_norm=float(block.max_norm[rows][-1]),
        window_steps=len(recent),
        stuck_loss=stuck,
    )
    step = int(block.step[-1])
    signal = Signal(
        evidence=evidence,
        severity=severity if stuck is None else "critical",
        step=step,
        last_step=step,
    )
    return state, (signal,)


def _stuck_loss(state: Saturation) -> float | None:
    """Return the loss of late, if it is where it was at the start."""
    if not state.losses:
        return None
    level = float(np.median(np.concatenate(list(state.losses))))
    return level if abs(level - state.start) <= _LEARNT * abs(state.start) else None


KIND = SymptomKind(
    id="clip-saturated",
    evidence=(ClipSaturatedEvidence,),
    detectors=(Detector(family="gradient", start=Saturation, chunks=update),),
    message=message,
    docs=(
        DocRow(
            "share of the last 128 steps with a coefficient below 1 ≥ 90%, median coefficient "
            "≤ 1/2",
            "coefficients, loss",
            "share, ratio",
            "note; warning below 1/10; critical below 1/1000 with a loss within a tenth of where "
            "it began",
            "a clip that acts on 10% of steps",
        ),
    ),
)
