"""S3 `gradient-growth`: the global gradient norm grows, steadily and by many bits."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from gainstage.bits import theil_sen
from gainstage.detect.kind.inputs import StepInput
from gainstage.detect.kind.symptom_kind import Detector, DocRow, Signal, Signals, SymptomKind
from gainstage.detect.series.history import History
from gainstage.detect.series.trend import mann_kendall

NOTABLE_BITS = 5.0
"""32 times the run's own level: a healthy late rise is about 1.6 bits (DESIGN 5)."""
STRONG_BITS = 10.0
"""From about 1 to about 1000, the textbook's alarm."""
_RISES = 2.3
"""Mann-Kendall z of a rise with 99% confidence."""
_WINDOWS = (8, 16, 32, 64)
_FEWEST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientGrowthEvidence:
    """How far the norm has risen above its own level, and how fast it still rises."""

    bits_gained: float
    """Median of the last three norms over the reference of the steps before them."""
    slope_bits_per_step: float
    window_steps: int
    """Steps that are remembered one by one."""
    at_step: int
    """Step at which these numbers were measured."""


def message(evidence: GradientGrowthEvidence) -> str:
    """Return the sentence for people."""
    return (
        f"the gradient norm grew {evidence.bits_gained:.1f} bits over its level, "
        f"{evidence.slope_bits_per_step:+.2g} bits a step at step {evidence.at_step}"
    )


@dataclass(frozen=True, slots=True)
class Growth:
    """State: the growth up to which a fit was tried already."""

    fitted_bits: float = 0.0


def update(state: Growth, given: StepInput) -> tuple[Growth, Signals]:
    """Return a signal if the norm, in bits, has grown over the run's level and still rises.

    The fit runs only where the last values are far above the level, so a quiet step costs nothing.
    """
    history = given.series.norm
    if history.recent[-1] - history.reference < NOTABLE_BITS or history.count < _FEWEST:
        return Growth(), ()
    gained = statistics.median(history.last(3)) - history.reference
    if gained < NOTABLE_BITS or (gained < state.fitted_bits + 1.0 and history.count % 8):
        return state, ()
    state = Growth(max(gained, state.fitted_bits))
    slope = _steady_slope(history)
    if slope is None:
        return state, ()
    evidence = GradientGrowthEvidence(
        bits_gained=gained,
        slope_bits_per_step=slope,
        window_steps=history.steps[-1] - history.steps[0],
        at_step=given.step,
    )
    signal = Signal(
        evidence=evidence,
        severity="warning",
        step=given.step,
        last_step=given.step,
        is_strong=gained >= STRONG_BITS,
    )
    return state, (signal,)


def _steady_slope(history: History) -> float | None:
    """Return the slope of the shortest dyadic window that rises beyond doubt, or of the chunks."""
    lengths = [n for n in _WINDOWS if n < len(history.recent)] + [len(history.recent)]
    for length in lengths:
        values, steps = history.last(length), list(history.steps)[-length:]
        # Four values in order are all that a fast explosion gives; a trend test needs more.
        rises = mann_kendall(values) > _RISES if length >= 6 else values == sorted(values)
        slope = theil_sen(steps, values)
        if rises and slope * (steps[-1] - steps[0]) >= NOTABLE_BITS / 2:
            return slope
    chunks = history.chunks[-_WINDOWS[-1] :]
    if mann_kendall(chunks) > _RISES:
        slope = theil_sen(range(len(chunks)), chunks)
        if slope * len(chunks) >= NOTABLE_BITS / 2:
            return slope / history.chunk_length
    return None


KIND = SymptomKind(
    id="gradient-growth",
    evidence=(GradientGrowthEvidence,),
    detectors=(Detector(family="gradient", start=Growth, norms=update),),
    message=message,
    docs=(
        DocRow(
            "Theil–Sen slope over the shortest dyadic window of steps that rises (Mann–Kendall "
            "z > 2.3), from the larger of the past's median and the first 16 steps'",
            "global norm",
            "bits, bits a step",
            "warning at 5 bits, strong at 10",
            "a rise of 3 times late in training; what converged and learns anew",
        ),
    ),
)
