"""`fp32-module`: modules kept out of autocast."""

from __future__ import annotations

from gainstage.treat.kind import TreatmentForm, TreatmentKind
from gainstage.treat.settings import Word
from gainstage.treat.treatment import Treatment


def _make(module: str) -> Treatment:
    from gainstage.treat.model.fp32_module import Fp32Module

    return Fp32Module(module)


FP32_MODULE = TreatmentKind(
    id="fp32-module",
    settings=(Word("module", "*"),),
    forms=(
        TreatmentForm(
            make=_make,
            acts="forward",
            does="keeps named modules, or everything, out of autocast",
            costs="what float32 costs",
        ),
    ),
    by_hand="call module {module} in float32, outside of autocast",
)
