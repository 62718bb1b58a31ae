"""`normalization-noise`: a batch norm takes its statistics from too few values to know them.

Of n values the mean has a relative error of 1/sqrt(n), and of one value the spread is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from gainstage.detect.kind.symptom_kind import Detector, DocRow, Signal, Signals, SymptomKind
from gainstage.facts.observation import BatchNormOfFew, Observation, Observed

_FEWEST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalizationNoiseEvidence:
    """How many values the statistics of a batch norm come from."""

    values: int
    """Values for each channel."""
    batch: int
    """Samples in the batch."""


def message(evidence: NormalizationNoiseEvidence) -> str:
    """Return the sentence for people."""
    return (
        f"a batch norm takes its statistics from {evidence.values} values a channel (batch "
        f"{evidence.batch}): the gradient follows their noise; layer norm and group norm do not "
        "look at the batch"
    )


def update(state: None, seen: Observation[Observed]) -> tuple[None, Signals]:
    """Return the signal of an observation, none where it is of something else."""
    if not isinstance(seen.evidence, BatchNormOfFew):
        return state, ()
    values = seen.evidence.values
    signal = Signal(
        evidence=NormalizationNoiseEvidence(values=values, batch=seen.evidence.batch),
        severity="warning" if values < _FEWEST else "info",
        step=seen.step,
        last_step=seen.step,
    )
    return state, (signal,)


KIND = SymptomKind(
    id="normalization-noise",
    evidence=(NormalizationNoiseEvidence,),
    detectors=(Detector(family="level", observations=update),),
    message=message,
    docs=(
        DocRow(
            "values a channel that a batch norm in training takes its statistics from, below 8",
            "autograd's graph",
            "values",
            "note; warning below 4",
            "evaluation mode",
        ),
    ),
)
