"""The verdict over all symptoms of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gainstage.detect.kind.symptom_kind import SymptomKind
from gainstage.detect.kinds import KINDS, kind_of
from gainstage.facts.findings import Verdict
from gainstage.facts.symptom import Symptom


def verdict_of(
    symptoms: Iterable[Symptom], last_step: int, kinds: Sequence[SymptomKind] = KINDS
) -> Verdict:
    """Return `failed` if something not finite was let in or the run ended diverged.

    `at-risk` is any other critical symptom; a healthy run has none. A run that was hurt and whose
    last steps show no sign of it, for a treatment left the bad ones out, has not failed.

    Args:
        symptoms: All of the run.
        last_step: The last step that was seen.
        kinds: Of the symptoms.
    """
    critical = [symptom for symptom in symptoms if symptom.severity == "critical"]
    for symptom in critical:
        kind = kind_of(symptom.symptom, kinds)
        slack = kind.fails_if_last(symptom.evidence)
        if kind.is_fatal or (slack is not None and symptom.last_step >= last_step - slack):
            return "failed"
    return "at-risk" if critical else "healthy"
