"""Confidence: the odds of each cause against the others and against one that nobody has listed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gainstage.diagnose.causes import CAUSES
from gainstage.diagnose.rank import rank


@pytest.mark.parametrize(("bits", "confidence"), [(0.0, 1 / 3), (1.0, 1 / 2), (3.0, 4 / 5)])
def test_an_unknown_cause_has_odds_of_two_to_one(bits: float, confidence: float) -> None:
    only = replace(CAUSES[0], prior_bits=0.0, weighs={"seen": bits})
    (ranked,) = rank(["seen"], [only])
    assert ranked.confidence == pytest.approx(confidence)
