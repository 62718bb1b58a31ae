"""Giving up trials that stand behind: successive halving, as they come by (Li et al. 2020, ASHA).

Trials do not wait for each other. Whoever reaches a rung, a share of the baseline's steps, is
compared with all that have reached it so far, and goes on only if among the better half.
"""

from __future__ import annotations

import math

from gainstage.prescribe.losses import Losses
from gainstage.prescribe.rank_trials import is_better

SHARES = (0.25, 0.5)
"""Of the baseline's steps, at which trials are compared."""
_FEWEST = 4
"""That have reached a rung before anyone is given up."""


class Halving:
    """Remembers the levels at each rung; one for all trials."""

    def __init__(self, steps: int) -> None:
        """Place the rungs.

        Args:
            steps: Of a whole run.
        """
        self._levels: dict[int, dict[str, float]] = {
            max(1, round(share * steps)): {} for share in SHARES
        }

    def is_behind(self, name: str, losses: Losses) -> bool:
        """Take in the losses of a running trial; tell whether it is to be given up.

        It is if at a rung more than half of at least 4 stand better than it, by more than a tie.
        """
        reached = int(losses.step[-1]) + 1 if len(losses.step) else 0
        behind = False
        for rung, levels in self._levels.items():
            if reached < rung or name in levels:
                continue
            level = losses.level(rung)
            levels[name] = math.inf if math.isnan(level) else level
            better = sum(is_better(each, levels[name]) for each in levels.values())
            behind = behind or (len(levels) >= _FEWEST and 2 * better > len(levels))
        return behind
