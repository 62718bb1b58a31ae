"""The rule of docs/prescribe.md is the code's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from gainstage.facts.prescription import TrialOutcome
from gainstage.prescribe.losses import DEAD_AFTER
from gainstage.prescribe.rank_trials import TIE
from gainstage.treat.kinds import KINDS

SAID = (Path(__file__).parents[2] / "docs" / "prescribe.md").read_text()


def test_the_order_of_simplicity_and_the_tie_are_those_of_the_code() -> None:
    (order,) = re.findall(r"then the order\s+((?:`[a-z0-9-]+`[,;]\s+)+)", SAID)
    assert tuple(re.findall(r"`([a-z0-9-]+)`", order)) == tuple(KINDS)
    assert f"All within {TIE:.0%} of the best are equals" in SAID
    assert f"its last {DEAD_AFTER} recorded losses" in SAID


def test_every_outcome_of_a_trial_is_documented() -> None:
    for outcome in get_args(TrialOutcome):
        assert outcome in ("waiting", "running") or f"`{outcome}`" in SAID
