"""`recurrent-gain`: the recurrence multiplies at every time step."""

from __future__ import annotations

from collections.abc import Sequence

from gainstage.diagnose.cause_kind import CauseKind
from gainstage.diagnose.place import (
    HUGE_BITS,
    growth_end,
    highest_level,
    operation_site,
    steepest_recurrence,
)
from gainstage.diagnose.remedies import clip, slower
from gainstage.facts.diagnosis import CauseSite, Remedy
from gainstage.facts.record import RankRecord


def place(record: RankRecord) -> CauseSite:
    """Return the wrong operation, else what makes the states that grow."""
    return (
        operation_site(record)
        or steepest_recurrence(record)
        or highest_level(record, HUGE_BITS)
        or growth_end(record)
    )


def remedies(record: RankRecord) -> Sequence[Remedy]:
    """Return a clip, recurrent weights of gain 1 and a lower rate."""
    reinit = Remedy("reinit", {"kind": "orthogonal"}, "recurrent weights of gain 1")
    # A script that clips already has tried the first of these.
    clips = bool((record.block.clip_coefficient < 1).any())
    if clips:
        return [reinit, slower(record), clip(record)]
    return [clip(record), reinit, slower(record)]


KIND = CauseKind(
    id="recurrent-gain",
    words="the recurrence multiplies at every time step",
    signature="levels grow from one time step to the next, while they are flat over the layers",
    weighs={
        "state-climbs": 7.0,
        "overflow-in-recurrence": 6.0,
        "time-grows-at-first-step": 6.0,
        "time-grows-later": 6.0,
        "state-is-not-finite": 2.0,
        "huge-at-first-step": 2.0,
        "overflow": 1.0,
        "grew-before": 0.5,
        "quiet-before": -1.0,
        "time-flat-at-first-step": -3.0,
        "loss-falls-without-bound": -4.0,
        "no-recurrence": -8.0,
    },
    place=place,
    remedies=remedies,
)
