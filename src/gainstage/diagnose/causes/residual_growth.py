"""`residual-growth`: the residual stream climbs while it trains."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gainstage.diagnose.cause_kind import CauseKind
from gainstage.diagnose.place import fault_site, growth_end, highest_level
from gainstage.diagnose.remedies import WARM_UP, clip, slower
from gainstage.facts.diagnosis import CauseSite, Remedy
from gainstage.facts.fault import Fault
from gainstage.facts.record import RankRecord


def place(record: RankRecord) -> CauseSite:
    """Return what overflowed within the network, else what put out most."""
    fault = record.fault
    if fault is not None and _is_in_network(fault):
        return fault_site(fault)
    return highest_level(record, -math.inf) or growth_end(record)


def remedies(record: RankRecord) -> Sequence[Remedy]:
    """Return a clip, a rate that begins low, smaller branches, and a lower rate."""
    return [
        clip(record),
        WARM_UP,
        Remedy("reinit", {"kind": "residual"}, "branches scaled by 1/√(2L)"),
        Remedy("insert-norm", {"kind": "layer"}, "what each branch adds is held"),
        slower(record),
    ]


def _is_in_network(fault: Fault) -> bool:
    """Return whether the first overflow happened inside a module."""
    return fault.kind == "overflow" and fault.phase == "forward" and bool(fault.site.module)


KIND = CauseKind(
    id="residual-growth",
    words="the residual stream climbs while it trains",
    signature="the level of a residual stream, or of attention logits, climbs over the steps at a "
    "constant rate",
    prior_bits=-0.5,
    weighs={
        "stream-leapt": 5.5,
        "stream-grows-at-first-step": 5.0,
        "levels-climb-along-a-residual-stream": 5.0,
        "depth-grows-later-along-a-residual-stream": 4.0,
        "input-usual-at-the-leap": 2.0,
        "overflow": 1.0,
        "grew-before": 1.0,
        "levels-climb": 1.0,
        "depth-grows-later": 0.5,
        "quiet-before": -1.0,
        "depth-grows-at-first-step": -1.0,
        "leapt-from-calm": -2.0,
        "loss-falls-without-bound": -4.0,
    },
    place=place,
    remedies=remedies,
)
