"""Going back to an earlier state of the training, and on from there with a lower learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from gainstage.treat.guard.snapshot import Snapshot, Statistics
from gainstage.treat.optimizer.step_size import Rates

MOST_IN_A_ROW: Final = 3
"""Rollbacks with fewer good steps between them than one goes back."""
MOST_ROLLBACKS: Final = 16
"""In all: by then a factor of 0.5 has left 1/65536 of the learning rate."""
_SNAPSHOTS: Final = 4
"""A snapshot is taken so often that this many lie within the distance to go back."""


class Rollback:
    """Snapshots of good steps, how far to go back, and when to give up.

    A snapshot is taken when the gradients computed from it were judged and found finite, before
    they are applied: none is ever taken of a state that a bad update has made. Up to 4 good steps
    back the distance is exact; beyond, it is at most a quarter longer, so that no more than 5
    snapshots are held. Random generators are not set back: the data do not come again either, and
    the same draws would lead to the same place.
    """

    def __init__(self, *, to: int, factor: float) -> None:
        """Prepare.

        Args:
            to: How many good steps to go back, at least 1.
            factor: Of the learning rate, for each time.
        """
        self.lr_factor = 1.0
        """By which the learning rate is multiplied by now."""
        self._to = to
        self._factor = factor
        self._spacing = math.ceil(to / _SNAPSHOTS)
        self._snapshots: list[tuple[int, Snapshot]] = []
        self._good_steps = 0
        self._since_last = 0
        self._in_a_row = 0
        self._rollbacks = 0
        self._rates = Rates()

    @property
    def nbytes(self) -> int:
        """Bytes that the snapshots hold."""
        return sum(snapshot.nbytes for _, snapshot in self._snapshots)

    def keep(self, optimizers: Sequence[Any], statistics: Statistics) -> None:
        """Take note of a good step, not applied yet; copies everything where a snapshot is due."""
        held = self._snapshots
        if self._good_steps % self._spacing == 0 and (not held or held[-1][0] != self._good_steps):
            while len(held) > 1 and self._good_steps - held[1][0] >= self._to:
                del held[0]
            held.append((self._good_steps, Snapshot(optimizers, statistics)))
        self._good_steps += 1
        self._since_last += 1

    def why_not(self) -> str | None:
        """Return in words why there is no going back any more, None where there is."""
        if not self._snapshots:
            return "a gradient is not finite, and no good step came before it"
        if self._rollbacks == MOST_ROLLBACKS:
            return f"a gradient is not finite after {MOST_ROLLBACKS} rollbacks"
        again = self._rollbacks > 0 and self._since_last < self._to
        if again and self._in_a_row == MOST_IN_A_ROW:
            return f"a gradient is not finite at the same place after {MOST_IN_A_ROW} rollbacks"
        return None

    def restore(self) -> int:
        """Go back, at least as far as asked for if the record reaches that far.

        Returns:
            How many good steps were undone.
        """
        again = self._rollbacks > 0 and self._since_last < self._to
        self._in_a_row = self._in_a_row + 1 if again else 1
        self._rollbacks += 1
        self._since_last = 0
        held = self._snapshots
        while len(held) > 1 and self._good_steps - held[-1][0] < self._to:
            del held[-1]
        count, snapshot = held[-1]
        snapshot.restore()
        back, self._good_steps = self._good_steps - count, count
        self._rates.give_back()  # by the factor with which this step began
        self.lr_factor *= self._factor
        return back

    def begin(self, optimizer: Any) -> None:
        """Lower the learning rate for the time of a step, once there was a rollback."""
        if self._rollbacks:
            self._rates.multiply(optimizer, self.lr_factor)

    def end(self, optimizer: Any) -> None:
        """Give the rate back that script and scheduler know."""
        self._rates.give_back()
