"""S4 `gradient-norm`: the global norm is far from where the run's own norms were.

At step 0 there is no such past. A norm of 2^30 needs none: weights of ordinary size vanish below
float32's 24 bits of precision against it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from gainstage.detect.kind.inputs import StepInput, WeightSample
from gainstage.detect.kind.symptom_kind import Detector, DocRow, Signal, Signals, SymptomKind
from gainstage.detect.series.history import CHUNK

ABSURD_BITS = 30.0
_ELASTIC = 4.0
_FEWEST = 2 * CHUNK
_LEAST_NOISE_BITS = 0.25
_Z = 8.0
_LEAST_BITS = 6.0
_SUSTAINED = 8
_MOST_BITS = 1000.0
"""2 to this power is a float still."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsurdNormEvidence:
    """A norm beyond reason, whatever the run's own norms were."""

    form: Literal["absurd"] = "absurd"
    grad_norm_bits: float
    """log2 of the norm."""
    is_first_step: bool
    at_step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ElasticNormEvidence:
    """A norm beyond reason that the network makes, not the unit of its targets."""

    form: Literal["elastic"] = "elastic"
    elasticity: float
    """‖g‖·‖w‖/|loss|: how many times more the loss changes than the weights, in relative terms."""
    at_step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SustainedNormEvidence:
    """A norm that stays far above the run's own."""

    form: Literal["sustained"] = "sustained"
    grad_norm_bits: float
    """log2 of the latest norm."""
    usual_bits: float
    """log2 of the norm that the run had before."""
    robust_z: float
    """Distance in robust standard deviations."""
    since_step: int


Evidence = AbsurdNormEvidence | ElasticNormEvidence | SustainedNormEvidence


def message(evidence: Evidence) -> str:
    """Return the sentence for people."""
    match evidence:
        case AbsurdNormEvidence(grad_norm_bits=bits, at_step=step):
            when = "on the first step already" if evidence.is_first_step else f"at step {step}"
            return f"the gradient norm is {2.0 ** min(bits, _MOST_BITS):.2g} (2^{bits:.0f}) {when}"
        case ElasticNormEvidence():
            return (
                f"the norm of the gradient is above 2^{ABSURD_BITS:.0f} at step "
                f"{evidence.at_step}: the loss changes {evidence.elasticity:.2g} times as much as "
                "the weights do"
            )
        case SustainedNormEvidence(usual_bits=usual):
            return (
                f"the gradient norm has stayed {evidence.grad_norm_bits - usual:.1f} bits above "
                f"its usual 2^{usual:.1f} since step {evidence.since_step}"
            )


@dataclass(frozen=True, slots=True)
class HighNorm:
    """State: for how many steps the norm has been high, and whether it was absurd."""

    high: int = 0
    is_absurd: bool = False
    elasticity: float = 0.0
    """‖g‖/|loss| of the first absurd step, to be multiplied by the weights' norm; then 0 again."""
    step: int = 0


def update(state: HighNorm, given: StepInput) -> tuple[HighNorm, Signals]:
    """Return a signal if the norm, in bits, stays high, or is beyond reason, at whatever step."""
    history = given.series.norm
    value = history.recent[-1]
    if value >= ABSURD_BITS and not state.is_absurd:
        return _absurd(state, given)
    above = value - history.reference
    if history.count < _FEWEST or above < _LEAST_BITS:
        return replace(state, high=0) if state.high else state, ()
    noise = max(history.noise, _LEAST_NOISE_BITS)
    state = replace(state, high=state.high + 1 if above / noise >= _Z else 0)
    if state.high == 0 or state.high % _SUSTAINED:
        return state, ()
    evidence = SustainedNormEvidence(
        grad_norm_bits=value,
        usual_bits=history.reference,
        robust_z=above / noise,
        since_step=given.step - _SUSTAINED + 1,
    )
    signal = Signal(
        evidence=evidence,
        severity="warning",
        step=given.step,
        last_step=given.step,
        count=_SUSTAINED,
    )
    return state, (signal,)


def _absurd(state: HighNorm, given: StepInput) -> tuple[HighNorm, Signals]:
    value, loss = given.series.norm.recent[-1], given.loss
    elasticity = 0.0
    if loss and math.isfinite(loss):
        elasticity = 2.0 ** min(value, _MOST_BITS) / abs(loss)
    evidence = AbsurdNormEvidence(
        grad_norm_bits=value, is_first_step=given.series.norm.count == 1, at_step=given.step
    )
    signal = Signal(
        evidence=evidence,
        severity="warning",
        step=given.step,
        last_step=given.step,
        is_strong=True,
    )
    return replace(state, is_absurd=True, elasticity=elasticity, step=given.step), (signal,)


def update_by_weights(state: HighNorm, sample: WeightSample) -> tuple[HighNorm, Signals]:
    """Return the second signal of an absurd norm, once the weights' norm is known, in bits.

    Targets in large units make the gradient large and the elasticity small; a network that blows
    its signal up makes both large.
    """
    if not state.elasticity:
        return state, ()
    elasticity = state.elasticity * 2.0 ** min(sample.history.latest, _MOST_BITS)
    state = replace(state, elasticity=0.0)
    if not elasticity >= _ELASTIC:
        return state, ()
    signal = Signal(
        evidence=ElasticNormEvidence(elasticity=elasticity, at_step=state.step),
        severity="critical",
        step=state.step,
        last_step=state.step,
        is_strong=True,
    )
    return state, (signal,)


KIND = SymptomKind(
    id="gradient-norm",
    evidence=(AbsurdNormEvidence, ElasticNormEvidence, SustainedNormEvidence),
    detectors=(
        Detector(family="gradient", start=HighNorm, norms=update, weights=update_by_weights),
    ),
    message=message,
    docs=(
        DocRow(
            "robust z ≥ 8 and 6 bits above the same reference for 8 steps; or 2³⁰ at once",
            "global norm, loss, weights",
            "bits",
            "warning; critical if 2³⁰ and the network itself makes it, ‖g‖·‖w‖/|loss| ≥ 4",
            "targets in large units",
        ),
    ),
)
