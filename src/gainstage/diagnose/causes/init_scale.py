"""`init-scale`: the initial weights have the wrong scale."""

from __future__ import annotations

from collections.abc import Sequence

from gainstage.diagnose.cause_kind import CauseKind
from gainstage.diagnose.place import growth_end, operation_site
from gainstage.diagnose.remedies import clip
from gainstage.facts.diagnosis import CauseSite, Remedy
from gainstage.facts.record import RankRecord

_WHY = "a gain of 1 a layer at the start"


def place(record: RankRecord) -> CauseSite:
    """Return the wrong operation, else the layer at which growth or fading ends."""
    return operation_site(record) or growth_end(record)


def remedies(record: RankRecord) -> Sequence[Remedy]:
    """Return other initial weights, then a clip."""
    return [
        Remedy("reinit", {"kind": "he"}, _WHY),
        Remedy("reinit", {"kind": "orthogonal"}, _WHY),
        clip(record),
    ]


KIND = CauseKind(
    id="init-scale",
    words="the initial weights have the wrong scale",
    signature="the gain of each layer, or the gradient norm, is wrong at step 0 already",
    weighs={
        "depth-grows-at-first-step": 5.0,
        "depth-fades-at-first-step": 5.0,
        "huge-at-first-step": 3.0,
        "overflow": 1.0,
        "time-grows-at-first-step": 0.5,
        "left-domain": -2.0,
        "singular-derivative": -2.0,
        "quiet-before": -2.0,
        "moderate-at-first-step": -2.0,
        "depth-flat-at-first-step": -2.5,
        "loss-falls-without-bound": -4.0,
    },
    place=place,
    remedies=remedies,
)
