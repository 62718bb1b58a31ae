"""The verdict over all symptoms of a run."""

from __future__ import annotations

from collections.abc import Iterable

from gainstage.detect.series.history import CHUNK
from gainstage.facts.findings import Verdict
from gainstage.facts.symptom import Symptom

_FATAL = ("loss-nonfinite", "gradient-nonfinite", "update-nonfinite")


def verdict_of(symptoms: Iterable[Symptom], last_step: int) -> Verdict:
    """Return `failed` if something not finite was let in or the run ended diverged.

    `at-risk` is any other critical symptom; a healthy run has none. A run that was hurt and whose
    last steps show no sign of it, for a treatment left the bad ones out, has not failed.

    Args:
        symptoms: All of the run.
        last_step: The last step that was seen.
    """
    critical = [symptom for symptom in symptoms if symptom.severity == "critical"]
    for symptom in critical:
        if symptom.symptom in _FATAL:
            return "failed"
        if symptom.symptom == "loss-divergence":
            # Forms other than a loss that is high are looked at once a chunk.
            slack = CHUNK if symptom.evidence.get("form", "above") != "above" else 1
            if symptom.evidence["last_step"] >= last_step - slack:
                return "failed"
    return "at-risk" if critical else "healthy"
