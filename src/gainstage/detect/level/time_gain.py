"""`time-gain`: deltas grow time step by time step on their way back through a recurrence.

The slope is Theil-Sen's over the time steps of one state of one sampled graph, in bits a step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gainstage.bits import LARGEST, theil_sen
from gainstage.detect.kind.symptom_kind import Detector, DocRow, Signal, Signals, SymptomKind
from gainstage.facts.blocks import TimeBlock

FEWEST_STEPS = 6
NOTABLE_SLOPE_BITS = 0.05
NOTABLE_TOTAL_BITS = 8.0
STRONG_TOTAL_BITS = 16.0
_MOST_POINTS = 96
"""Of a longer sequence every second, third ... step makes the slope: pairs grow as the square."""
MANTISSA_BITS = 24.0
"""A signal that has fallen this far is lost in float32: the memory horizon."""

_SUBNORMAL_BITS = -120.0
"""float32 and bfloat16 lose their last bits about there. What has faded so far does not fade on: it
stays at the smallest number for the rest of the sequence, and would make a slope of 0."""


@dataclass(frozen=True, slots=True)
class TimeGain:
    """Growth along one state of one recurrence."""

    step: int
    site: int
    layer: int
    time_steps: int
    slope_bits: float
    """Bits a time step that deltas gain on the way back."""
    largest_bits: float
    hidden_slope_bits: float
    """Bits a time step that the state gains; NaN where its level is not known."""

    @property
    def total_bits(self) -> float:
        """What the slope makes of the whole sequence."""
        return self.slope_bits * (self.time_steps - 1)

    @property
    def steps_to_overflow(self) -> float:
        """Time steps more until float32 overflows; inf where deltas do not grow."""
        if not self.slope_bits > 0:
            return math.inf
        return (math.log2(LARGEST["float32"]) - self.largest_bits) / self.slope_bits

    @property
    def memory_horizon(self) -> float:
        """Time steps until a delta has fallen by 24 bits; inf where it does not fall."""
        return MANTISSA_BITS / -self.slope_bits if self.slope_bits < 0 else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeGainEvidence:
    """Growth along the steepest recurrence of one sampled graph."""

    slope_bits_per_time_step: float
    """Bits a time step that deltas gain on the way back."""
    time_steps: int
    steps_to_overflow: float
    """Time steps more until float32 overflows."""
    site: int
    """Index into the sites of the operation that makes the state; -1 where it matches none."""
    layer: int
    """Within a fused layer's node; 0 otherwise."""
    at_step: int


def message(evidence: TimeGainEvidence) -> str:
    """Return the sentence for people."""
    return (
        f"deltas grow {evidence.slope_bits_per_time_step:.2f} bits a time step over "
        f"{evidence.time_steps} steps at step {evidence.at_step}; a sequence "
        f"{max(evidence.steps_to_overflow, 0):.0f} steps longer would overflow"
    )


def site(evidence: TimeGainEvidence) -> int | None:
    """Return the number of the operation that makes the state."""
    return evidence.site


@dataclass(frozen=True, slots=True)
class Time:
    """State: the largest total growth reported so far."""

    reported_bits: float = 0.0


def update(state: Time, block: TimeBlock) -> tuple[Time, Signals]:
    """Return a signal if a recurrence of a sampled graph multiplies, and more than was reported."""
    steepest = max(time_gains(block), key=lambda gain: gain.total_bits, default=None)
    least = max(NOTABLE_TOTAL_BITS, state.reported_bits + 1.0)
    if steepest is None or steepest.total_bits < least:
        return state, ()
    if steepest.slope_bits < NOTABLE_SLOPE_BITS:
        return state, ()
    evidence = TimeGainEvidence(
        slope_bits_per_time_step=steepest.slope_bits,
        time_steps=steepest.time_steps,
        steps_to_overflow=steepest.steps_to_overflow,
        site=steepest.site,
        layer=steepest.layer,
        at_step=steepest.step,
    )
    signal = Signal(
        evidence=evidence,
        severity="warning",
        step=steepest.step,
        last_step=steepest.step,
        is_strong=steepest.total_bits >= STRONG_TOTAL_BITS,
    )
    return Time(steepest.total_bits), (signal,)


def time_gains(block: TimeBlock) -> Iterator[TimeGain]:
    """Yield the growth along every state through time; recurrences through depth are left out."""
    if not len(block):
        return
    keys = np.stack([block.step, block.series.astype(np.int64)], axis=1)
    starts = np.flatnonzero(np.r_[True, (keys[1:] != keys[:-1]).any(axis=1)])
    for first, end in zip(starts, np.r_[starts[1:], len(block)], strict=True):
        rows = slice(int(first), int(end))
        delta = block.delta_bits[rows].astype(np.float64)
        known = np.isfinite(delta) & (delta > _SUBNORMAL_BITS)
        if block.depth[first] or known.sum() < FEWEST_STEPS:
            continue
        known = np.flatnonzero(known)
        known = known[:: -(-len(known) // _MOST_POINTS)]
        yield TimeGain(
            step=int(block.step[first]),
            site=int(block.site[first]),
            layer=int(block.layer[first]),
            time_steps=len(delta),
            slope_bits=-theil_sen(block.time_step[rows][known], delta[known]),
            largest_bits=float(delta[known].max()),
            hidden_slope_bits=_hidden_slope(block, rows),
        )


def _hidden_slope(block: TimeBlock, rows: slice) -> float:
    hidden = block.hidden_bits[rows].astype(np.float64)
    known = np.flatnonzero(np.isfinite(hidden) & (hidden > _SUBNORMAL_BITS))
    if len(known) < FEWEST_STEPS:
        return math.nan
    known = known[:: -(-len(known) // _MOST_POINTS)]
    return theil_sen(block.time_step[rows][known], hidden[known])


KIND = SymptomKind(
    id="time-gain",
    evidence=(TimeGainEvidence,),
    detectors=(Detector(family="time", start=Time, times=update),),
    message=message,
    site=site,
    docs=(
        DocRow(
            "Theil–Sen slope of the deltas' level over the time steps of a recurrence, on the way "
            "back: 0.05 bits a step and 8 bits in all",
            "sampled graphs",
            "bits a time step",
            "warning, strong at 16 bits in all",
            "recurrences through depth; fewer than six time steps",
        ),
    ),
)
