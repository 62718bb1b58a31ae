"""`skip-nonfinite`: no step with gradients that are not finite."""

from __future__ import annotations

from gainstage.treat.kind import TreatmentForm, TreatmentKind
from gainstage.treat.treatment import Treatment


def _make() -> Treatment:
    from gainstage.treat.optimizer.skip import SkipNonfinite

    return SkipNonfinite()


SKIP_NONFINITE = TreatmentKind(
    id="skip-nonfinite",
    forms=(
        TreatmentForm(
            make=_make,
            acts="gradients",
            does="leaves a step out whose gradients hold NaN or inf",
        ),
    ),
    by_hand="step only if all gradients are finite",
)
