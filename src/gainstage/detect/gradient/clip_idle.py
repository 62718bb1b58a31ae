"""`clip-idle`: a clip that never acts, for its limit is far above all norms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gainstage.detect.gradient.clip_saturated import clipped_steps
from gainstage.detect.kind.inputs import Chunk
from gainstage.detect.kind.symptom_kind import Detector, DocRow, Signal, Signals, SymptomKind

_STEPS = 256
_RATIO = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipIdleEvidence:
    """The limit, and the largest norm that it was given."""

    max_norm: float
    largest_norm: float
    steps: int
    """Steps with a clip."""


def message(evidence: ClipIdleEvidence) -> str:
    """Return the sentence for people."""
    return (
        f"the clip at {evidence.max_norm:.3g} has not acted in {evidence.steps} steps: the largest "
        f"norm was {evidence.largest_norm:.3g}"
    )


@dataclass(frozen=True, slots=True)
class Idleness:
    """State: steps with a clip, those on which it acted, and the largest norm it was given."""

    steps: int = 0
    active: int = 0
    largest: float = 0.0


def update(state: Idleness, chunk: Chunk) -> tuple[Idleness, Signals]:
    """Return a signal once, as the first 256 steps with a clip are over."""
    block = chunk.block
    rows = clipped_steps(block)
    if not rows.any():
        return state, ()
    norms, limit = block.grad_norm[rows], float(block.max_norm[rows][-1])
    before = state.steps
    state = Idleness(
        before + int(rows.sum()),
        state.active + int((block.clip_coefficient[rows] < 1.0).sum()),
        max(state.largest, float(np.max(norms, initial=0.0, where=np.isfinite(norms)))),
    )
    if state.active or before >= _STEPS or state.steps < _STEPS:
        return state, ()
    if limit < _RATIO * state.largest or state.largest == 0:
        return state, ()
    step = int(block.step[-1])
    evidence = ClipIdleEvidence(max_norm=limit, largest_norm=state.largest, steps=state.steps)
    return state, (Signal(evidence=evidence, severity="info", step=step, last_step=step),)


KIND = SymptomKind(
    id="clip-idle",
    evidence=(ClipIdleEvidence,),
    detectors=(Detector(family="gradient", start=Idleness, chunks=update),),
    message=message,
    docs=(
        DocRow(
            "no step of the first 256 clipped, limit ≥ 10 times the largest norm",
            "coefficients, limit",
            "ratio",
            "note",
            "a limit of inf (a norm reader)",
        ),
    ),
)
