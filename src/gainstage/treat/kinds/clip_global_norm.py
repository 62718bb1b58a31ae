"""`clip-global-norm`: gradients scaled so that their norm has a limit."""

from __future__ import annotations

from gainstage.treat.kind import TreatmentForm, TreatmentKind
from gainstage.treat.settings import Number, Word
from gainstage.treat.treatment import Treatment


def _make(max_norm: float, norm_type: float, per: str) -> Treatment:
    from gainstage.treat.clip.treatments import ClipGlobalNorm

    return ClipGlobalNorm(max_norm, norm_type, per)


CLIP_GLOBAL_NORM = TreatmentKind(
    id="clip-global-norm",
    settings=(
        Number("max_norm", 1.0),
        Number("norm_type", 2.0, or_inf=True),
        Word("per", "all", ("all", "parameter", "group")),
    ),
    forms=(
        TreatmentForm(
            make=_make,
            acts="gradients",
            does="scales gradients so that their norm, together or part by part, is at most "
            "`max_norm`",
            source="Pascanu 2013",
            costs="the norm is read anyway; one write on clipped steps",
        ),
    ),
    by_hand="before the optimizer's step, call "
    "torch.nn.utils.clip_grad_norm_(model.parameters(), {max_norm})",
)
