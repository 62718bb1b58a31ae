"""Causes in the order of their confidence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gainstage.diagnose.cause_kind import CauseKind
from gainstage.diagnose.causes import CAUSES

UNKNOWN_BITS = 1.0
"""Log-odds of there being another cause than these: what the best must beat."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A cause with how sure the evidence is."""

    cause: str
    confidence: float
    """Between 0 and 1; those of all causes and of an unknown one add up to 1."""


def rank(names: Iterable[str], causes: Iterable[CauseKind] = CAUSES) -> list[Ranked]:
    """Return the causes, the most likely first.

    Args:
        names: Ids of the evidence; each counts once.
        causes: Those that are weighed.
    """
    known = list(dict.fromkeys(names))
    odds = {
        kind.id: 2.0 ** sum((kind.weighs.get(name, 0.0) for name in known), kind.prior_bits)
        for kind in causes
    }
    whole = sum(odds.values()) + 2.0**UNKNOWN_BITS
    ranked = [Ranked(cause, each / whole) for cause, each in odds.items()]
    return sorted(ranked, key=lambda each: -each.confidence)
