"""What a trial's record says of its losses, also while the trial runs."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gainstage.errors import RunFolderError
from gainstage.facts.prescription import Trial
from gainstage.store.reader import load

_SHARE = 0.05
"""Of the steps, whose median is the level of the loss."""
_FEWEST = 5
DEAD_AFTER = 8
"""Losses in a row that are not finite: a step that was left out has one."""
_FINAL = re.compile(rb"^final_loss=(\S+)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Losses:
    """The recorded losses of the first rank, in the order of its steps."""

    step: NDArray[np.int64]
    loss: NDArray[np.float64]
    steps: int
    """Steps in the record, those without a loss too."""
    left_out: int = 0
    """Steps that a treatment left out."""

    def level(self, until: int | None = None) -> float:
        """Return the median of the last 5% of the losses, at least 5, before a step.

        NaN counts as infinite. NaN where there is no loss.
        """
        count = len(self.loss) if until is None else int(np.searchsorted(self.step, until))
        last = self.loss[max(0, count - max(_FEWEST, round(_SHARE * count))) : count]
        return _median(last)

    def start(self) -> float:
        """Return the level of the first losses: what a network that learns nothing stays at."""
        return _median(self.loss[: max(1, min(_FEWEST, len(self.loss) // 10))])

    @property
    def is_dead(self) -> bool:
        """Whether the last losses are all not finite, so that weights must be."""
        last = self.loss[-DEAD_AFTER:]
        return len(last) == DEAD_AFTER and not bool(np.isfinite(last).any())


def _median(losses: NDArray[np.float64]) -> float:
    if not len(losses):
        return math.nan
    known = np.where(np.isnan(losses), math.inf, losses)
    # The lower one of two in the middle: infinity minus infinity has no mean.
    return float(np.sort(known)[(len(known) - 1) // 2])


def losses_of(folder: Path) -> Losses:
    """Return the losses recorded so far; none if the run has not begun to train."""
    try:
        run = load(folder)
    except RunFolderError:
        return Losses(np.zeros(0, np.int64), np.zeros(0), 0)
    rank = min(run.ranks, default=0)
    block = run.block(rank)
    has = block.has_loss
    left_out = int((block.skipped == -1).sum())
    return Losses(block.step[has], block.loss[has], len(block), left_out)


def printed_final_loss(output: Path) -> float | None:
    """Return what a script printed last as a line `final_loss=`, None if it printed none."""
    try:
        found = _FINAL.findall(output.read_bytes())
    except OSError:
        return None
    try:
        return float(found[-1]) if found else None
    except ValueError:
        return None


def is_finite(trial: Trial) -> bool:
    """Tell whether a trial reached the end with a finite loss."""
    return trial.outcome == "finished" and math.isfinite(trial.reported_loss)
