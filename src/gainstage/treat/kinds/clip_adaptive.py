"""`clip-adaptive`: limits that follow the weights, the norms so far, or the update."""

from __future__ import annotations

from gainstage.treat.kind import TreatmentForm, TreatmentKind
from gainstage.treat.settings import Number, When, Word
from gainstage.treat.treatment import Treatment


def _agc(clipping: float, eps: float) -> Treatment:
    from gainstage.treat.clip.treatments import ClipAdaptive

    return ClipAdaptive(clipping, eps)


def _autoclip(percentile: float) -> Treatment:
    from gainstage.treat.clip.history import AutoClip
    from gainstage.treat.clip.treatments import ClipByHistory

    return ClipByHistory(AutoClip(percentile))


def _zclip(alpha: float, z: float, warm_up: float, max_norm: float) -> Treatment:
    from gainstage.treat.clip.history import ZClip
    from gainstage.treat.clip.treatments import ClipByHistory

    return ClipByHistory(ZClip(alpha, z, int(warm_up), max_norm))


def _update(rms: float) -> Treatment:
    from gainstage.treat.clip.treatments import ClipUpdate

    return ClipUpdate(rms)


def _with(kind: str) -> When:
    return When(name="kind", among=(kind,))


CLIP_ADAPTIVE = TreatmentKind(
    id="clip-adaptive",
    settings=(
        Word("kind", "agc", ("agc", "autoclip", "zclip", "update")),
        Number("clipping", 0.01, when=_with("agc")),
        Number("eps", 1e-3, when=_with("agc")),
        Number("percentile", 10.0, below=100.0, when=_with("autoclip")),
        Number("alpha", 0.97, below=1.0, when=_with("zclip")),
        Number("z", 2.5, when=_with("zclip")),
        Number("warm_up", 25.0, above=1.0, whole=True, when=_with("zclip")),
        Number("max_norm", float("inf"), or_inf=True, when=_with("zclip")),
        Number("rms", 1.0, when=_with("update")),
    ),
    forms=(
        TreatmentForm(
            chosen_by={"kind": "agc"},
            make=_agc,
            acts="gradients",
            does="limits each unit's gradient to a share of its weights' norm",
            source="Brock 2021",
            costs="one read of weights and gradients, one write",
        ),
        TreatmentForm(
            chosen_by={"kind": "autoclip"},
            make=_autoclip,
            acts="gradients",
            does="clips by global norm at a percentile of all norms so far",
            source="Seetharaman 2020",
            costs="8 bytes a step",
        ),
        TreatmentForm(
            chosen_by={"kind": "zclip"},
            make=_zclip,
            acts="gradients",
            does="clips norms that are outliers of their moving mean, worse ones deeper",
            source="Kumar 2025",
        ),
        TreatmentForm(
            chosen_by={"kind": "update"},
            make=_update,
            acts="update",
            does="shortens what the optimizer writes, tensor by tensor, to an rms of `rms` times "
            "the learning rate",
            source="Shazeer 2018, Wortsman 2023",
            costs="a copy of the parameters, three passes",
            without_optimizer="there is no update to shorten",
        ),
    ),
    by_hand="before the optimizer's step, call clip_adaptive_ of gainstage.treat.clip or its like "
    "for kind={kind}",
    why_no_edit="torch has no such function",
)
