"""The rows of a run: one an optimizer step to the sink, and now and then the weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, cast

from torch.optim import Optimizer

from gainstage.attach.names.columns import Columns, Plan
from gainstage.attach.sample.graph_watch import GraphWatch
from gainstage.facts.tensor import TensorInfo
from gainstage.norms.deferred import Number, fetched_norms
from gainstage.norms.total import gradient_norms
from gainstage.store.ring import Row

Norms: TypeAlias = list[float | None]

Reading: TypeAlias = tuple[Sequence[float | None], float | None, float | None, float | None, int]
"""Norms before anything clipped them, total, max_norm, coefficient, and steps skipped before."""


class Sink(Protocol):
    """Where rows go, such as a `StepWriter`."""

    def append(self, row: Row, /) -> None:
        """Take the row of one step; called on every step, so it must not wait."""
        ...

    def append_weights(self, step: int, norms: Sequence[float | None]) -> None:
        """Take the 2-norms of the parameters before a step."""
        ...

    def set_tensors(self, tensors: Sequence[TensorInfo]) -> None:
        """Take the watched parameters anew; they are only ever appended to."""
        ...


class Rows:
    """Numbers the steps and hands them on. Opens its sink with the first."""

    def __init__(
        self,
        open_sink: Callable[[Sequence[TensorInfo]], Sink],
        columns: Columns,
        graph: GraphWatch | None,
        weights_share: float,
    ) -> None:
        """Prepare.

        Args:
            open_sink: Called once, with the parameters known by then.
            columns: Which parameter has which column.
            graph: Told of every step.
            weights_share: Part of the training time that reading the weights may take.
        """
        self.step = 0
        """The index of the step to come."""
        self._open_sink = open_sink
        self._columns = columns
        self._graph = graph
        self._weights_share = weights_share
        self._weights_due = 0.0
        self._sink: Sink | None = None
        self._announced = 0

    def open(self) -> Sink:
        """Return the sink, opened if it was not yet."""
        if self._sink is None:
            self._sink = self._open_sink(self._columns.tensors)
            self._announced = len(self._columns.tensors)
        return self._sink

    def write(
        self,
        plan: Plan,
        optimizer: Optimizer | None,
        now: float,
        loss: float | None,
        lr: float | None,
        reading: Reading,
    ) -> None:
        """Hand on what was read of a step, and go on to the next one."""
        columns = self._columns
        sink = self._sink
        if sink is None:
            sink = self.open()
        elif self._announced != len(columns.tensors):
            sink.set_tensors(columns.tensors)
            self._announced = len(columns.tensors)
        norms, total, max_norm, coefficient, skipped = reading
        if self._graph is not None:
            self._graph.on_step(self.step, columns, plan.ids, norms, total, optimizer)
        if plan.columns is not None:
            norms = columns.spread(plan.columns, norms)
        sink.append((self.step, now, loss, lr, total, max_norm, coefficient, skipped, norms))
        self.step += 1

    def sample_weights(self, plan: Plan, now: float) -> None:
        """Read all weights where it is time, as often as the budget allows.

        At steps 1, 2, 4, 8 ... as well: a short run, too, has its weights' growth on record.

        Args:
            plan: Of the step just written, for when no optimizer has stepped.
            now: In seconds since the epoch.
        """
        if now < self._weights_due and self.step & (self.step - 1):
            return
        began = time.perf_counter()
        plans = self._columns.plans() or [plan]
        norms: list[Number] = []
        for each in plans:
            weights = [parameter.data for parameter in each.parameters]
            norms += gradient_norms(weights)[0] if each.on_cpu else fetched_norms(weights)[0]
        self.append_weights(plans, cast("Norms", norms))
        took = time.perf_counter() - began
        self._weights_due = time.time() + took / self._weights_share

    def append_weights(self, plans: Sequence[Plan], norms: Norms) -> None:
        """Hand on the norms of the weights of plans, one after the other."""
        row: Norms = [None] * len(self._columns.tensors)
        columns = [c for plan in plans for c in plan.columns or range(len(plan.parameters))]
        for column, norm in zip(columns, norms, strict=True):
            row[column] = norm
        if self._sink is not None:
            self._sink.append_weights(self.step, row)
