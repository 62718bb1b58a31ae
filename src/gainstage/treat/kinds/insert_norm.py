"""`insert-norm`: norms behind modules."""

from __future__ import annotations

from gainstage.treat.kind import TreatmentForm, TreatmentKind
from gainstage.treat.settings import Number, Word
from gainstage.treat.treatment import Treatment


def _make(kind: str, at: str, eps: float) -> Treatment:
    from gainstage.treat.model.insert_norm import InsertNorm

    return InsertNorm(kind, at, eps)


INSERT_NORM = TreatmentKind(
    id="insert-norm",
    settings=(
        Word("kind", "layer", ("layer", "rms", "batch")),
        Word("at", "growth"),
        Number("eps", 1e-5),
    ),
    forms=(
        TreatmentForm(
            make=_make,
            acts="forward",
            does="normalises what modules return, see below",
            source="Ba 2016, Zhang 2019, Ioffe 2015",
            not_in_closure="parameters cannot join it in the middle of its step",
            costs="the norm in every forward pass, one step left out",
        ),
    ),
    by_hand="put a {kind} norm behind the modules at={at}",
)
