"""The registry of symptoms: add a kind here, and scan, JSON and docs/detectors.md know it."""

from __future__ import annotations

from collections.abc import Sequence

from gainstage.detect.gradient import (
    clip_idle,
    clip_saturated,
    gradient_growth,
    gradient_imbalance,
    gradient_nonfinite,
    gradient_norm,
    gradient_spike,
    gradient_vanishing,
    norm_mismatch,
)
from gainstage.detect.kind.symptom_kind import SymptomKind
from gainstage.detect.level import (
    depth_gain,
    headroom_low,
    normalization_noise,
    overflow_forecast,
    time_gain,
)
from gainstage.detect.loss import loss_divergence, loss_nonfinite
from gainstage.detect.update import step_skipped, update_nonfinite, update_spike, weight_growth
from gainstage.facts.codec import DecodeError

KINDS: tuple[SymptomKind, ...] = (
    loss_nonfinite.KIND,
    gradient_nonfinite.KIND,
    update_nonfinite.KIND,
    gradient_growth.KIND,
    gradient_norm.KIND,
    gradient_spike.KIND,
    depth_gain.KIND,
    time_gain.KIND,
    headroom_low.KIND,
    overflow_forecast.KIND,
    update_spike.KIND,
    loss_divergence.KIND,
    weight_growth.KIND,
    gradient_imbalance.KIND,
    step_skipped.KIND,
    gradient_vanishing.KIND,
    clip_saturated.KIND,
    clip_idle.KIND,
    norm_mismatch.KIND,
    normalization_noise.KIND,
)
"""What they say of one step is weighed in this order."""


def kind_of(symptom: str, kinds: Sequence[SymptomKind] = KINDS) -> SymptomKind:
    """Return a kind by its id.

    Raises:
        DecodeError: If there is none.
    """
    for kind in kinds:
        if kind.id == symptom:
            return kind
    raise DecodeError(f"there is no symptom {symptom!r}")
