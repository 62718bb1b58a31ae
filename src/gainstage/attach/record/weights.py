"""Reads the norms of all weights now and then, at steps that the budget allows."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence

from gainstage.attach.names.columns import Columns, Plan
from gainstage.attach.record.deferred import DeferredReader
from gainstage.attach.record.metrics import Norms
from gainstage.attach.record.rows import Rows
from gainstage.attach.sample.cadence import Cadence, Changed
from gainstage.norms.deferred import fetched_norms
from gainstage.norms.total import gradient_norms

_STEPS_BETWEEN_DEFERRED = 64
"""On an accelerator, where what reading costs is not seen from here: 1.6% of a gradient read."""
_SHORTEST = 4
"""Steps between two readings at least."""
_PER_OCTAVE = 16
"""Readings from any step to twice that step, whatever they cost: a short run, too, has its
weights' growth on record, at the same steps each time."""


class WeightSampler:
    """Samples the weights of all optimizers that have stepped."""

    def __init__(
        self, columns: Columns, rows: Rows, share: float, on_change: Changed | None
    ) -> None:
        """Begin.

        Args:
            columns: Knows the parameters of the optimizers.
            rows: Takes the norms.
            share: Part of the training time that reading the weights may take.
            on_change: Told where readings cost so much that they had to become rarer.
        """
        self._columns = columns
        self._rows = rows
        self._cadence = Cadence(share, shortest=_SHORTEST, on_change=on_change)
        self._deferred_steps = 0
        self.next_step = 0.0
        """The first step to come for which `after_step` has anything to do."""

    def after_step(self, plan: Plan) -> None:
        """Read all weights where the next step is one of those that are due.

        Args:
            plan: Of the step just written, for when no optimizer has stepped.
        """
        step, cadence = self._rows.step, self._cadence
        if cadence.wants_steps:
            cadence.on_step(step)
        is_due = cadence.is_due(step)
        if is_due or _is_early(step):
            self._read(plan, is_due=is_due)
        soonest = min(cadence.next_due(step), _next_early(step))
        self.next_step = step + 1 if cadence.wants_steps else soonest

    def _read(self, plan: Plan, *, is_due: bool) -> None:
        began = time.perf_counter()
        plans = self._plans(plan)
        norms: Norms = []
        for each in plans:
            weights = [parameter.data for parameter in each.parameters]
            norms += gradient_norms(weights)[0] if each.on_cpu else fetched_norms(weights)[0]
        self._rows.write_weights(plans, norms)
        self._cadence.on_cost(time.perf_counter() - began, is_due=is_due)

    def after_launch(self, plan: Plan, deferred: DeferredReader) -> None:
        """Begin to read all weights on an accelerator, once in so many steps.

        Args:
            plan: Of the step just launched, for when no optimizer has stepped.
            deferred: Fetches the norms.
        """
        self._deferred_steps += 1
        if self._deferred_steps % _STEPS_BETWEEN_DEFERRED == 1:
            plans = self._plans(plan)
            weights = [parameter.data for each in plans for parameter in each.parameters]
            deferred.begin_weights(weights, functools.partial(self._rows.write_weights, plans))

    def _plans(self, plan: Plan) -> Sequence[Plan]:
        return self._columns.plans() or [plan]


def _is_early(step: int) -> bool:
    """Tell whether a step is read whatever that costs: 1, 2, 4, 8, 12 ..., ever more rarely."""
    octave = 1 << (step.bit_length() - 1)
    return step == octave or step % _stride(octave) == 0


def _next_early(step: int) -> int:
    """Return the first step after this one that is read whatever that costs."""
    octave = 1 << (step.bit_length() - 1)
    return min((step // _stride(octave) + 1) * _stride(octave), 2 * octave)


def _stride(octave: int) -> int:
    return max(octave // _PER_OCTAVE, _SHORTEST)
