"""Which trial has won.

The rule, in full:
1. In question are trials that reached the script's own end with a finite loss, left out less than
   half of their steps, and helped (`has_helped`).
2. The loss to compare is the one the script prints at its end as `final_loss=`, where all of them
   print one after as many steps (within a tenth); else the median of the last 5% of the recorded
   losses before the step that all of them reached.
3. All within 5% of the best are equals; of these the simplest wins: fewer treatments, then the
   order of the kinds of treatment, then the lower loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gainstage.facts.prescription import Trial
from gainstage.prescribe.candidate import Candidate
from gainstage.prescribe.losses import Losses, is_finite

TIE = 0.05
_SAME_QUANTITY = 0.25
_SAME_LENGTH = 0.9


@dataclass(frozen=True, slots=True)
class TrialResult:
    """A candidate with what came of it."""

    candidate: Candidate
    trial: Trial
    losses: Losses


def is_better(loss: float, other: float) -> bool:
    """Tell whether a loss is lower than another by more than the tie of 5%."""
    if not math.isfinite(other):
        return math.isfinite(loss)
    return other - loss > TIE * max(abs(loss), abs(other))


def has_helped(result: TrialResult, baseline: Trial, start: float) -> bool:
    """Tell whether a trial is a repair: better than the baseline's end, and something was learned.

    Args:
        result: The trial.
        baseline: The untreated run.
        start: The level of the baseline's first losses. The trial's last losses must be better,
            where they are what the script prints as its final loss (within 25%) or it prints none.
    """
    trial = result.trial
    if not is_finite(trial) or 2 * result.losses.left_out > result.losses.steps:
        return False
    ended = baseline.reported_loss if baseline.outcome == "finished" else math.nan
    if not is_better(trial.reported_loss, ended):
        return False
    end = trial.loss
    if not math.isfinite(start) or not math.isfinite(end):
        return True
    return not reports_its_loss(trial) or is_better(end, start)


def reports_its_loss(trial: Trial) -> bool:
    """Tell whether what a trial prints as its final loss is what it trains on, within 25%."""
    reported, end = trial.reported_loss, trial.loss
    return abs(reported - end) <= _SAME_QUANTITY * max(abs(reported), abs(end))


def compared_losses(results: Sequence[TrialResult]) -> list[float]:
    """Return the loss of each that decides between them: rule 2."""
    most = max((each.trial.steps for each in results), default=0)
    if all(
        each.trial.final_loss is not None and each.trial.steps >= _SAME_LENGTH * most
        for each in results
    ):
        return [each.trial.reported_loss for each in results]
    ends = [int(each.losses.step[-1]) + 1 for each in results if len(each.losses.step)]
    return [each.losses.level(min(ends, default=0)) for each in results]


def ranked(results: Sequence[TrialResult], baseline: Trial, start: float) -> list[TrialResult]:
    """Return the trials that helped, the winner first, the others by their loss: rules 1 to 3."""
    helped = [each for each in results if has_helped(each, baseline, start)]
    pairs = sorted(
        zip(compared_losses(helped), helped, strict=True), key=lambda pair: _nan_last(pair[0])
    )
    if not pairs:
        return []
    best = pairs[0][0]
    equals = [pair for pair in pairs if not is_better(best, pair[0])]
    winner = min(equals, key=lambda pair: (pair[1].candidate.complexity(), _nan_last(pair[0])))
    return [winner[1], *(each for _, each in pairs if each is not winner[1])]


def _nan_last(loss: float) -> float:
    return math.inf if math.isnan(loss) else loss
