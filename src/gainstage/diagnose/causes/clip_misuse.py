"""`clip-misuse`: clipping does not do what it is for."""

from __future__ import annotations

from collections.abc import Sequence

from gainstage.diagnose.cause_kind import CauseKind
from gainstage.diagnose.code_change import clip_changes
from gainstage.diagnose.place import growth_end, observation_site
from gainstage.diagnose.remedies import own_limit
from gainstage.facts.diagnosis import CauseSite, Remedy
from gainstage.facts.observation import (
    ClipAfterStep,
    ClipCalled,
    ClipNothing,
    ClipPartial,
    ClipScaled,
)
from gainstage.facts.record import RankRecord

_WHY = "clip all gradients, before the step and at a limit within their reach"


def place(record: RankRecord) -> CauseSite:
    """Return the line that clips."""
    for kind in (ClipAfterStep, ClipScaled, ClipNothing, ClipPartial, ClipCalled):
        clip = record.first(kind)
        if clip is not None:
            return observation_site("optimizer", clip)
    return growth_end(record)


def remedies(record: RankRecord) -> Sequence[Remedy]:
    """Return a clip that acts, and what to change about the script's own."""
    clip = Remedy("clip-global-norm", {"max_norm": own_limit(record)}, _WHY)
    return [clip, *(Remedy("code-change", why=change) for change in clip_changes(record))]


KIND = CauseKind(
    id="clip-misuse",
    words="clipping does not do what it is for",
    signature="the order of clip, unscale and step; parameters clipped are not those stepped; a "
    "limit that never acts",
    weighs={
        "clips-after-step": 9.0,
        "clips-part": 9.0,
        "clips-nothing": 9.0,
        "clips-scaled-gradients": 8.0,
        "clip-far-out-of-reach": 7.0,
        "overflow": 1.0,
        "left-domain": -3.0,
        "singular-derivative": -3.0,
        "quiet-before": -3.0,
        "bad-input": -4.0,
    },
    place=place,
    remedies=remedies,
    code_changes=("clip-a-list", "unscale-first"),
)
