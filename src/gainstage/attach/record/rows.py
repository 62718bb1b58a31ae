"""The rows of a run, one an optimizer step: numbered here, and handed to the sink."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from gainstage.attach.names.columns import Columns, Plan
from gainstage.attach.record.metrics import Norms, StepMetrics
from gainstage.facts.rows import Row
from gainstage.facts.tensor import TensorInfo

LEFT_OUT = -1
"""Stands in the column `skipped` of a step that a treatment has left out."""


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

    def __init__(self, open_sink: Callable[[Sequence[TensorInfo]], Sink], columns: Columns) -> None:
        """Prepare.

        Args:
            open_sink: Called once, with the parameters known by then.
            columns: Which parameter has which column.
        """
        self.step = 0
        """The index of the step to come."""
        self.skipped = 0
        """Steps that a loss scaler has left out since the last row."""
        self._open_sink = open_sink
        self._columns = columns
        self._sink: Sink | None = None
        self._announced = 0

    def open(self) -> Sink:
        """Return the sink, opened if it was not yet, with all columns announced."""
        sink = self._sink
        tensors = self._columns.tensors
        if sink is None:
            sink = self._sink = self._open_sink(tensors)
        elif self._announced != len(tensors):
            sink.set_tensors(tensors)
        self._announced = len(tensors)
        return sink

    def write(
        self,
        sink: Sink,
        plan: Plan,
        now: float,
        loss: float | None,
        lr: float | None,
        metrics: StepMetrics,
    ) -> None:
        """Hand on a step, and go on to the next one.

        Args:
            sink: As `open` has returned it.
            plan: What was stepped.
            now: In seconds since the epoch.
            loss: Of the step.
            lr: Its learning rate.
            metrics: Its gradients.
        """
        norms = metrics.norms
        if plan.columns is not None:
            norms = self._columns.spread(plan.columns, norms)
        skipped, self.skipped = self.skipped, 0
        if metrics.is_left_out:
            skipped = LEFT_OUT
        sink.append(
            (
                self.step,
                now,
                loss,
                lr,
                metrics.grad_norm,
                metrics.max_norm,
                metrics.clip_coefficient,
                skipped,
                norms,
            )
        )
        self.step += 1

    def write_weights(self, plans: Sequence[Plan], norms: Norms) -> None:
        """Hand on the norms of the weights before the step to come, those of each plan in turn."""
        row: Norms = [None] * len(self._columns.tensors)
        columns = [c for plan in plans for c in plan.columns or range(len(plan.parameters))]
        for column, norm in zip(columns, norms, strict=True):
            row[column] = norm
        if self._sink is not None:
            self._sink.append_weights(self.step, row)
