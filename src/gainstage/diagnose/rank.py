"""Causes in the order of their confidence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gainstage.diagnose.weights import CAUSES, PRIOR, WEIGHTS, Cause

UNKNOWN_BITS = 1.0
"""Log-odds of there being another cause than these: what the best must beat."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A cause with how sure the evidence is."""

    cause: Cause
    confidence: float
    """Between 0 and 1; those of all causes and of an unknown one add up to 1."""


def rank(names: Iterable[str]) -> list[Ranked]:
    """Return the causes, the most likely first.

    Args:
        names: Rows of the evidence table; each counts once.
    """
    bits: dict[Cause, float] = {cause: PRIOR.get(cause, 0.0) for cause in CAUSES}
    for name in dict.fromkeys(names):
        for cause, weight in WEIGHTS[name].items():
            bits[cause] += weight
    odds: dict[Cause, float] = {cause: 2.0**each for cause, each in bits.items()}
    whole = sum(odds.values()) + 2.0**UNKNOWN_BITS
    ranked = [Ranked(cause, each / whole) for cause, each in odds.items()]
    return sorted(ranked, key=lambda each: -each.confidence)
