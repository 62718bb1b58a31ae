"""Feeds every detector of every kind with what it asks for, and collects their signals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gainstage.detect.kind.symptom_kind import Detector, Family, Signal, SymptomKind, Update

FEEDS = (
    "rows",
    "steps",
    "losses",
    "norms",
    "chunks",
    "stretches",
    "weights",
    "profiles",
    "times",
    "faults",
    "observations",
)


@dataclass(frozen=True, slots=True)
class Seen:
    """A signal, with the kind and the family that it is of."""

    kind: SymptomKind
    family: Family
    signal: Signal


@dataclass(frozen=True, slots=True)
class _Port:
    """An update of a detector, and where its state is."""

    kind: SymptomKind
    family: Family
    place: int
    update: Update[Any]


@dataclass(frozen=True, slots=True)
class FeedPlan:
    """Which updates each feed goes to: those with one state for the run, and one for each group."""

    kinds: tuple[SymptomKind, ...]
    whole: dict[str, list[_Port]]
    grouped: dict[str, list[_Port]]


def plan_of(kinds: Sequence[SymptomKind]) -> FeedPlan:
    """Return the plan for some kinds, in their order."""
    plan = FeedPlan(tuple(kinds), {feed: [] for feed in FEEDS}, {feed: [] for feed in FEEDS})
    for place, (kind, detector) in enumerate(_detectors(kinds)):
        ports = plan.grouped if detector.is_per_group else plan.whole
        for feed in FEEDS:
            update = getattr(detector, feed)
            if update is not None:
                ports[feed].append(_Port(kind, detector.family, place, update))
    return plan


def start_states(plan: FeedPlan, *, per_group: bool) -> list[Any]:
    """Return the states before the first step; None for detectors of the other sort."""
    return [
        detector.start() if detector.is_per_group == per_group else None
        for _, detector in _detectors(plan.kinds)
    ]


def feed(ports: Iterable[_Port], states: list[Any], given: object) -> list[Seen]:
    """Give one input to the updates that ask for it; return what they saw."""
    found: list[Seen] = []
    for port in ports:
        states[port.place], signals = port.update(states[port.place], given)
        for signal in signals:
            found.append(Seen(port.kind, port.family, signal))
    return found


def _detectors(kinds: Iterable[SymptomKind]) -> list[tuple[SymptomKind, Detector]]:
    return [(kind, detector) for kind in kinds for detector in kind.detectors]
