"""Lets treatments change a step's gradients, once they are read."""

from __future__ import annotations

import msgspec

from gainstage.attach.record.metrics import StepMetrics
from gainstage.treat.pipeline import TreatmentPipeline
from gainstage.treat.treatment import Step


def treat(treatments: TreatmentPipeline, step: Step, metrics: StepMetrics) -> StepMetrics:
    """Treat a step; return its metrics with what treatments did to it.

    Raises:
        SystemExit: If a guard ends the process.
    """
    treatments.treat(step)
    if step.coefficient is not None:
        known = 1.0 if metrics.clip_coefficient is None else metrics.clip_coefficient
        metrics = msgspec.structs.replace(
            metrics, clip_coefficient=known * step.coefficient, max_norm=step.max_norm
        )
    return left_out(metrics) if step.skipped else metrics


def left_out(metrics: StepMetrics) -> StepMetrics:
    """Return the metrics of a step that a treatment leaves out."""
    return msgspec.structs.replace(metrics, is_left_out=True)
