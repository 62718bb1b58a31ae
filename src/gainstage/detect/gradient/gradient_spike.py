"""`gradient-spike`: an isolated outlier of the global norm, reported when it is over."""

from __future__ import annotations

from dataclasses import dataclass

from gainstage.detect.kind.inputs import StepInput
from gainstage.detect.kind.symptom_kind import Detector, DocRow, Signal, Signals, SymptomKind
from gainstage.detect.series.history import CHUNK

_FEWEST = 2 * CHUNK
_Z = 8.0
_LEAST_BITS = 3.0
_OVER_BITS = 1.5
_LONGEST = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientSpikeEvidence:
    """How high the outlier was, and how long."""

    peak_bits: float
    """Bits above the norm's level."""
    steps: int
    at_step: int
    """Step at which it began."""


def message(evidence: GradientSpikeEvidence) -> str:
    """Return the sentence for people."""
    return (
        f"the gradient norm rose {evidence.peak_bits:.1f} bits above its level at step "
        f"{evidence.at_step} and was back after {evidence.steps} steps"
    )


@dataclass(frozen=True, slots=True)
class Spike:
    """State: the spike that is going on."""

    began: int | None = None
    steps: int = 0
    peak_bits: float = 0.0


def update(state: Spike, given: StepInput) -> tuple[Spike, Signals]:
    """Return a note once the norm, in bits, has come back from an outlier."""
    history = given.series.norm
    above = history.recent[-1] - history.level
    if state.began is None:
        is_out = history.count >= _FEWEST and above >= max(_Z * history.noise, _LEAST_BITS)
        return Spike(given.step, 1, above) if is_out else state, ()
    steps, peak = state.steps + 1, max(state.peak_bits, above)
    if steps > _LONGEST:
        # No spike but a new level: what that means is for the other detectors.
        return Spike(), ()
    if above > _OVER_BITS:
        return Spike(state.began, steps, peak), ()
    signal = Signal(
        evidence=GradientSpikeEvidence(peak_bits=peak, steps=steps, at_step=state.began),
        severity="info",
        step=state.began,
        last_step=given.step,
    )
    return Spike(), (signal,)


KIND = SymptomKind(
    id="gradient-spike",
    evidence=(GradientSpikeEvidence,),
    detectors=(Detector(family="gradient", start=Spike, norms=update),),
    message=message,
    # What a spike looks like while it rises: nobody can tell before it has come back.
    settles=frozenset({"gradient-growth", "gradient-norm", "overflow-forecast"}),
    docs=(
        DocRow(
            "8 robust deviations and 3 bits above the level, back within 32 steps",
            "global norm",
            "bits, steps",
            "note; turns warnings of the same spike into notes",
        ),
    ),
)
