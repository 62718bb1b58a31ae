"""Reads the norms of all weights now and then, as often as the budget allows."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence

from gainstage.attach.names.columns import Columns, Plan
from gainstage.attach.record.deferred import DeferredReader
from gainstage.attach.record.metrics import Norms
from gainstage.attach.record.rows import Rows
from gainstage.norms.deferred import fetched_norms
from gainstage.norms.total import gradient_norms

_STEPS_BETWEEN_DEFERRED = 64
"""On an accelerator, where what reading costs is not seen from here: 1.6% of a gradient read."""


class WeightSampler:
    """Samples the weights of all optimizers that have stepped."""

    def __init__(self, columns: Columns, rows: Rows, share: float) -> None:
        """Begin.

        Args:
            columns: Knows the parameters of the optimizers.
            rows: Takes the norms.
            share: Part of the training time that reading the weights may take.
        """
        self._columns = columns
        self._rows = rows
        self._share = share
        self._due = 0.0
        self._deferred_steps = 0

    def after_step(self, plan: Plan, now: float) -> None:
        """Read all weights where it is time.

        At steps 1, 2, 4, 8 ... as well: a short run, too, has its weights' growth on record.

        Args:
            plan: Of the step just written, for when no optimizer has stepped.
            now: In seconds since the epoch.
        """
        step = self._rows.step
        if now < self._due and step & (step - 1):
            return
        began = time.perf_counter()
        plans = self._plans(plan)
        norms: Norms = []
        for each in plans:
            weights = [parameter.data for parameter in each.parameters]
            norms += gradient_norms(weights)[0] if each.on_cpu else fetched_norms(weights)[0]
        self._rows.write_weights(plans, norms)
        took = time.perf_counter() - began
        self._due = time.time() + took / self._share

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
