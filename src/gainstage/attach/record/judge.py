"""What a step's numbers lead to: its fault named, the black box written, a check ended."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from gainstage.attach.names.columns import Columns, Plan
from gainstage.attach.names.loss_scale import LossScale
from gainstage.attach.names.watched_script import WatchedScript
from gainstage.attach.record.metrics import StepMetrics
from gainstage.attach.record.protection import Protection
from gainstage.attach.record.rows import Rows
from gainstage.attach.sample.graph_watch import GraphWatch
from gainstage.norms.deferred import Number


class Check(Protocol):
    """What `gainstage check` does at the moments of a recorder."""

    def before_backward(
        self,
        step: int,
        roots: Sequence[Any],
        scale: float | Tensor,
        optimizers: Callable[[], Sequence[Optimizer]],
    ) -> None:
        """Read a graph while it is whole."""
        ...

    def after_row(self, step: int) -> None:
        """End the process, if the step before `step` was the last one asked for."""
        ...

    def on_skipped(self) -> None:
        """Take note that a loss scaler left a step out."""
        ...


class Judge:
    """Looks at each step before the optimizer acts on it. One a process."""

    def __init__(
        self,
        graph: GraphWatch | None,
        columns: Columns,
        rows: Rows,
        loss_scale: LossScale,
        model: Callable[[], nn.Module | None],
    ) -> None:
        """Begin with no protection and no check.

        Args:
            graph: Knows what was seen in the graphs of the step's backward calls.
            columns: Names parameters.
            rows: Opened before anything is told of a step.
            loss_scale: Knows the scaler, whose state belongs into the black box.
            model: Returns a module to look into besides what variables hold.
        """
        self.protection: Protection | None = None
        """Black box and guard; the guard is besides the last of the treatments."""
        self.check: Check | None = None
        self._graph = graph
        self._columns = columns
        self._rows = rows
        self._loss_scale = loss_scale
        self._model = model

    def before_backward(self, roots: Sequence[Any], script: WatchedScript) -> None:
        """Let a check read the graph, while it is whole."""
        if self.check is None:
            return
        if self._graph is not None:
            self._graph.end_forward()  # or all that a check computes had sites taken, too
        scale = self._loss_scale.current()
        self.check.before_backward(self._rows.step, roots, scale, script.optimizers)

    def on_parameters(self, optimizer: Optimizer) -> None:
        """Tell the guard of an optimizer's parameters."""
        if self.protection is not None:
            self.protection.on_parameters(optimizer, self._model())

    def before_treatments(self, optimizer: Optimizer) -> None:
        """Note what treatments may change for the time of a step."""
        if self.protection is not None:
            self.protection.before_treatments(optimizer, self._model())

    def reads_closures(self, plan: Plan) -> bool:
        """Tell whether the gradients that a closure leaves are to be looked at as it returns."""
        return self.protection is not None and self.protection.reads_closures(plan)

    def on_metrics(
        self,
        plan: Plan,
        metrics: StepMetrics,
        optimizer: Optimizer | None,
        loss: Number,
        evaluation: int = 0,
    ) -> None:
        """Name the fault and save the state where a gradient is not finite, before a step is made.

        Args:
            plan: What would be stepped.
            metrics: Its gradients.
            optimizer: That would step, None where the script does it by hand.
            loss: Of the step.
            evaluation: Which call of a closure has left the gradients, 0 without one.
        """
        total = metrics.grad_norm
        if total is None or math.isfinite(total):
            return
        self._rows.open()
        if self._graph is not None:
            self._graph.judge(self._rows.step, self._columns, plan.ids, metrics.norms, optimizer)
        places = plan.columns or range(len(plan.parameters))
        pairs = zip(places, metrics.norms, strict=True)
        nonfinite = [column for column, n in pairs if n is not None and not math.isfinite(n)]
        self._save(plan, nonfinite, loss, evaluation)

    def after_row(self) -> None:
        """End the process, if a check has asked for no further step."""
        if self.check is not None:
            self.check.after_row(self._rows.step)

    def on_skipped(self) -> None:
        """Let go of what belongs to a step that a loss scaler left out."""
        if self._graph is not None:
            self._graph.on_skipped()
        if self.protection is not None:
            self.protection.on_skipped()
        if self.check is not None:
            self.check.on_skipped()

    def finish(self, loss: Number) -> None:
        """Tell a fault that no step followed, and save the state where a fault led to no step."""
        graph = self._graph
        if graph is not None and graph.faults.is_loss_bad:
            self._rows.open()
            graph.judge(self._rows.step, self._columns, (), (), None)
        if self.protection is not None and self.protection.has_fault_of(self._rows.step):
            self._save(None, (), loss, 0)
        if graph is not None:
            graph.faults.forget()

    def _save(
        self, plan: Plan | None, nonfinite_parameters: Sequence[int], loss: Number, evaluation: int
    ) -> None:
        if self.protection is None:
            return
        self._rows.open()
        columns = self._columns
        names = [columns.tensors[column].name for column in nonfinite_parameters]
        facts = {"nonfinite": names, "loss": loss, "evaluation": evaluation}
        step, scale = self._rows.step, self._loss_scale
        self.protection.fail(step, plan, facts, columns, scale, self._model())

    def retire(self) -> None:
        """Let go of protection and check."""
        if self.protection is not None:
            self.protection.retire()
        self.protection = self.check = None
