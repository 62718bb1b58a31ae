"""Treatments from their specs."""

from __future__ import annotations

from gainstage.treat.spec import Spec
from gainstage.treat.treatment import Treatment


def make(spec: Spec) -> Treatment:
    """Return a new treatment for a spec."""
    values = spec.values()
    form = spec.kind.form(values)
    choosing = spec.kind.choosing()
    treatment = form.make(**{name: values[name] for name in values if name not in choosing})
    treatment.remedy = spec.remedy
    treatment.values = values | spec.schedule()
    treatment.span = spec.span()
    treatment.without_optimizer = form.without_optimizer
    treatment.not_in_closure = form.not_in_closure
    return treatment
