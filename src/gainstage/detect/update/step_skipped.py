"""`step-skipped`: steps that a loss scaler or a treatment left out, or that no optimizer takes.

A scaler searches for its scale by leaving out the first steps, and tries a larger one every 2000
steps: both are normal. Steps with no row at all are not seen here, only counted by the next row.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from gainstage.detect.kind.inputs import Chunk
from gainstage.detect.kind.symptom_kind import Detector, DocRow, Signal, Signals, SymptomKind
from gainstage.facts.observation import Observation, Observed, ParametersUnstepped

_CHUNKS = 8
_SHARE = 0.2
_FEWEST = 16
_RUN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsSkippedEvidence:
    """Steps left out of late, and in all."""

    form: Literal["left-out"] = "left-out"
    by: Literal["treatment", "scaler"]
    share: float
    """Of the steps tried of late, 0 to 1."""
    recent_left_out: int
    recent_steps: int
    """Steps tried of late."""
    longest_run: int
    """Most steps left out one after the other."""
    left_out: int
    """In all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsteppedParametersEvidence:
    """Parameters that get gradients and are in no optimizer."""

    form: Literal["parameters-unheld"] = "parameters-unheld"
    tensors: int
    of: int
    """Tensors with gradients."""
    names: tuple[str, ...] = ()
    """Of the first of them."""


Evidence = StepsSkippedEvidence | UnsteppedParametersEvidence


def message(evidence: Evidence) -> str:
    """Return the sentence for people."""
    match evidence:
        case StepsSkippedEvidence():
            who = "a treatment" if evidence.by == "treatment" else "the loss scaler"
            return (
                f"{who} left out {evidence.recent_left_out} of the last {evidence.recent_steps} "
                f"steps, at most {evidence.longest_run} in a row"
            )
        case UnsteppedParametersEvidence():
            return (
                f"{', '.join(evidence.names)}: {evidence.tensors} of {evidence.of} tensors get "
                "gradients and no optimizer steps them: they were made after it"
            )


@dataclass(slots=True)
class Skipped:
    """State: steps left out of late, and in all."""

    recent: deque[tuple[int, int]] = field(
        default_factory=lambda: deque[tuple[int, int]](maxlen=_CHUNKS)
    )
    """(left out, tried) of the last chunks."""
    total: int = 0
    rows: int = 0
    run: int = 0
    """Treated steps left out one after the other."""
    longest: int = 0


def update(state: Skipped, chunk: Chunk) -> tuple[Skipped, Signals]:
    """Return a signal where a fifth of the steps of late, or 8 in a row, were left out."""
    block = chunk.block
    scaler = np.where(block.skipped > 0, block.skipped, 0)
    if state.rows == 0:
        scaler[0] = 0  # the search for the first scale
    treated = block.skipped < 0
    for left_out in treated.tolist():
        state.run = state.run + 1 if left_out else 0
        state.longest = max(state.longest, state.run)
    state.longest = max(state.longest, int(scaler.max()))
    out = int(scaler.sum() + treated.sum())
    state.rows += len(block)
    state.total += out
    state.recent.append((out, len(block) + int(scaler.sum())))
    lost, tried = (sum(each) for each in zip(*state.recent, strict=True))
    if not out or ((lost < _FEWEST or lost < _SHARE * tried) and state.longest < _RUN):
        return state, ()
    step = int(block.step[-1])
    evidence = StepsSkippedEvidence(
        by="treatment" if treated.any() else "scaler",
        share=lost / tried,
        recent_left_out=lost,
        recent_steps=tried,
        longest_run=state.longest,
        left_out=state.total,
    )
    signal = Signal(evidence=evidence, severity="warning", step=step, last_step=step, count=out)
    return state, (signal,)


def update_by_observation(state: None, seen: Observation[Observed]) -> tuple[None, Signals]:
    """Return the signal of parameters that no optimizer steps; none of another observation."""
    if not isinstance(seen.evidence, ParametersUnstepped):
        return state, ()
    evidence = UnsteppedParametersEvidence(
        tensors=seen.evidence.tensors, of=seen.evidence.of, names=seen.evidence.names
    )
    signal = Signal(
        evidence=evidence,
        severity="critical",  # a fact: what they are meant to learn is not learnt
        step=seen.step,
        last_step=seen.step,
        is_strong=True,
    )
    return state, (signal,)


KIND = SymptomKind(
    id="step-skipped",
    evidence=(StepsSkippedEvidence, UnsteppedParametersEvidence),
    detectors=(
        Detector(family="gradient", start=Skipped, chunks=update),
        Detector(family="gradient", observations=update_by_observation),
    ),
    message=message,
    docs=(
        DocRow(
            "a fifth of the last 128 steps, or 8 in a row, left out",
            "skipped counts",
            "share, steps",
            "warning",
            "a scaler's search for its first scale",
        ),
        DocRow(
            "parameters that get gradients and are in no optimizer for 8 steps, of a network that "
            "one steps, made after the first optimizer",
            "leaves of sampled graphs",
            "tensors",
            "critical",
            "heads trained alone; networks that only measure",
        ),
    ),
)
