"""What a training process is doing, one row an optimizer step: the hot path of watching."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from gainstage.attach.boundary import Boundary
from gainstage.attach.fault.unseen_loss import Scope, bad_losses
from gainstage.attach.names.columns import Columns, Plan
from gainstage.attach.names.loss_scale import LossScale
from gainstage.attach.names.watched_script import WatchedScript
from gainstage.attach.record.clips import Clips
from gainstage.attach.record.closure import ClosureReader, closure_of, with_closure
from gainstage.attach.record.deferred import DeferredReader
from gainstage.attach.record.immediate import ImmediateReader, gradients_of, lr_of, read_plain
from gainstage.attach.record.judge import Judge
from gainstage.attach.record.metrics import StepMetrics
from gainstage.attach.record.rows import Rows, Sink
from gainstage.attach.record.step_loss import StepLoss
from gainstage.attach.record.treated import left_out, treat
from gainstage.attach.record.weights import WeightSampler
from gainstage.attach.sample.graph_watch import GraphWatch
from gainstage.facts.tensor import TensorInfo
from gainstage.graph.nodes.leaves import leaves_of
from gainstage.norms.replace import Clipped
from gainstage.readable import is_capturing
from gainstage.treat.pipeline import TreatmentPipeline
from gainstage.treat.treatment import Backward, Step, Treatment

_WEIGHTS_SHARE = 0.2
"""Part of the overhead budget that reading the weights may use."""


class Recorder:
    """Turns what hooks see into rows. One a process; its methods run in the training thread.

    They are called through `boundary`, which reports an error of our own once and ends watching.
    """

    def __init__(
        self,
        open_sink: Callable[[Sequence[TensorInfo]], Sink],
        *,
        model: nn.Module | None = None,
        treatments: Sequence[Treatment] = (),
        budget: float = 0.01,
        on_fault: Callable[[BaseException], None],
        graph: GraphWatch | None = None,
    ) -> None:
        """Make a recorder that opens its sink on the first step.

        Args:
            open_sink: Called once, with the parameters known by then.
            model: Searched for the names of parameters, besides what variables hold.
            treatments: Applied to every step, in this order.
            budget: Share of the training time that sampled reads may take.
            on_fault: Called once with an error of gainstage's own, after which nothing is watched.
            graph: Reads the graphs of backward calls.
        """
        self.boundary = Boundary(on_fault)
        """What torch calls comes through here."""
        self.has_optimizer = False
        self.graph = graph
        self.script = WatchedScript(model)
        self._open_sink = open_sink
        self._weights_share = max(budget * _WEIGHTS_SHARE, 1e-6)
        self._model = None if model is None else weakref.ref(model)
        self.forget()
        self.treatments = TreatmentPipeline(treatments)

    def forget(self) -> None:
        """Begin anew, as a forked child must: no step, no sink, no treatments, no protection."""
        self.step_calls = 0
        self.backward_calls = 0
        self.functional_calls = 0
        """Of `backward_calls`, those whose gradients were returned to the script."""
        self.in_backward = False
        self.loss_scale = LossScale()
        self.treatments = TreatmentPipeline()
        self._columns = Columns(self._model)
        self._rows = Rows(self._open_sink, self._columns)
        self.judge = Judge(
            self.graph, self._columns, self._rows, self.loss_scale, self._given_model
        )
        self._clips = Clips()
        self._loss = StepLoss(self.loss_scale)
        self._immediate = ImmediateReader(self._clips, self.loss_scale)
        self._deferred = DeferredReader(self._clips, self.loss_scale)
        self._closure = ClosureReader()
        on_change = None if self.graph is None else self.graph.on_weights_rarer
        self._weights = WeightSampler(self._columns, self._rows, self._weights_share, on_change)
        self._stepping: Optimizer | None = None
        self._leaves: list[Tensor] = []
        self._backward: Backward | None = None
        self._calls_at_step = -1

    @property
    def is_dead(self) -> bool:
        """Whether watching has ended, by an error of our own."""
        return self.boundary.has_failed

    @property
    def step(self) -> int:
        """The index of the optimizer step to come."""
        return self._rows.step

    # Backward

    def before_backward(self, tensors: Any, *, accumulates: bool = True) -> None:
        """Note the loss. Runs before the outermost backward call.

        Args:
            tensors: What it is called on.
            accumulates: Whether it adds to gradients; else they are returned.
        """
        self.backward_calls += 1
        if self._clips.calls:
            self._clips.clear()
        roots: Sequence[Any] = tensors if isinstance(tensors, (list, tuple)) else (tensors,)
        is_finite = self._loss.add(roots, replace=self._closure.is_open)
        if not self._closure.is_open:
            self._stepping = None
        if self.judge.check is not None:
            self.judge.before_backward(roots, self.script)
        graph = self.graph
        call = {"is_finite": is_finite, "accumulates": accumulates}
        if graph is not None and graph.looks_at(self._rows.step, self._loss.value, **call):
            graph.before_backward(roots, self.step, self.loss_scale.current(), **call)
        if not self.has_optimizer:
            self._leaves = leaves_of(root for root in roots if isinstance(root, Tensor))
        if self.treatments:
            self._backward = Backward(self.step, roots)
            self.treatments.before_backward(self._backward)

    def after_backward(self, *, accumulates: bool = True) -> None:
        """Write the row where no optimizer will: a script that steps by hand.

        Args:
            accumulates: Whether gradients have been added to the leaves'; else they are returned.
        """
        if self.graph is not None:
            self.graph.after_backward()
        if self._backward is not None:
            backward, self._backward = self._backward, None
            self.treatments.after_backward(backward)
        leaves, self._leaves = self._leaves, []
        if leaves and accumulates and not self.has_optimizer:
            self.on_gradients(leaves, [leaf.grad for leaf in leaves])

    def on_gradients(self, parameters: list[Tensor], grads: list[Tensor | None]) -> None:
        """Write the row of a step that the script takes by hand, from the gradients it has."""
        plan = self._columns.plan_for(parameters, [len(parameters)])
        if self.treatments:
            self._record(plan, None, self._read_treated(plan, grads, None))
            self.treatments.end(None, self.step)
        elif plan.on_cpu:
            self._record(plan, None, self._immediate.read(plan, grads, None))
        else:
            self._launch(plan, None, grads)

    def add_loss(self, value: Tensor) -> None:
        """Note a loss of which the graph cannot be had."""
        self.backward_calls += 1
        self._loss.add([value], replace=self._closure.is_open)

    # Clipping

    def on_clip(self, clipped: Clipped) -> None:
        """Keep the norms that a clipping call read, before it writes."""
        audit = None if self.graph is None else self.graph.audit
        if not clipped.parameters:
            if audit is not None:
                limit = clipped.max_norm
                audit.on_empty_clip(None if isinstance(limit, Tensor) else limit)
            return
        scale = self.loss_scale.of(clipped.parameters)
        self._clips.note(clipped, scale)
        if audit is not None:
            audit.on_clip(
                self.step,
                clipped,
                is_after_step=self.backward_calls == self._calls_at_step,
                scale=1.0 if isinstance(scale, Tensor) else scale,
            )

    # Optimizers

    def on_optimizer(self, optimizer: Optimizer) -> None:
        """Note that an optimizer exists, so that its steps count and not the backward calls."""
        self.has_optimizer = True
        self._columns.expect(optimizer)
        self.script.add_optimizer(optimizer)
        if self.graph is not None:
            self.graph.audit.on_optimizer(optimizer)
            self.graph.unheld.on_optimizer(optimizer)

    def on_parameters(self, optimizer: Optimizer) -> None:
        """Take note that an optimizer has its parameters now, or has got more of them."""
        self.boundary.run(self.judge.on_parameters, optimizer)

    def before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        """Record the step and treat it; a step with a closure is recorded when it has run.

        Returns:
            None, or the arguments of `step` with the closure replaced by one that is read.
        """
        self.step_calls += 1
        self.has_optimizer = True
        if self._stepping is not None and self._stepping is not optimizer:
            return None  # an optimizer that steps within another one's step
        self._stepping = optimizer
        if self.treatments:
            self.judge.before_treatments(optimizer)
            self.treatments.begin(optimizer, self.step)
        closure = closure_of(args, kwargs) if kwargs or len(args) > 1 else None
        plan = self._columns.plan_of(optimizer)
        if closure is not None:
            self._closure.begin()
            if not self.treatments and not self.judge.reads_closures(plan):
                return None
            return with_closure(args, kwargs, self._read_after(closure, plan, optimizer))
        scaled = "found_inf" in optimizer.__dict__
        if plan.on_cpu and not (scaled or self._clips.calls or self.treatments):
            self._record(plan, optimizer, read_plain(plan))
        elif not plan.on_cpu and not self.treatments:
            self._launch(plan, optimizer, gradients_of(plan))
        elif self.loss_scale.found_inf(optimizer) > 0:
            self.on_skipped()
        else:
            self._record(plan, optimizer, self._read(plan, optimizer))
        return None

    def after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Undo what treatments changed for the step, and record one that had a closure."""
        if self._stepping is not optimizer:
            return
        is_closure = self._closure.is_open
        if not (is_closure or self.treatments):
            self._stepping = None
            return
        try:
            self.treatments.end(optimizer, self.step + is_closure)
            if is_closure and not self.is_dead:
                plan = self._columns.plan_of(optimizer)
                metrics = self._closure.metrics
                if metrics is None:
                    metrics = self._immediate.read(plan, gradients_of(plan), None)
                self._record(plan, optimizer, metrics)
        finally:
            self._stepping = None
            self._closure.end()

    def on_skipped(self) -> None:
        """Count a step that a loss scaler left out."""
        self._rows.skipped += 1
        self._clips.clear()
        self._loss.is_used = True
        self.judge.on_skipped()

    # Gradients

    def _read(self, plan: Plan, optimizer: Optimizer) -> StepMetrics:
        """Read the gradients that an optimizer is about to step with, and treat them."""
        grads = gradients_of(plan)
        if self.treatments:
            return self._read_treated(plan, grads, optimizer)
        return self._immediate.read(plan, grads, optimizer)

    def _read_treated(
        self, plan: Plan, grads: list[Tensor | None], optimizer: Optimizer | None
    ) -> StepMetrics:
        metrics = self._immediate.read(plan, grads, optimizer)
        self._judge(plan, metrics)
        scale = 1.0 if optimizer is None else float(self.loss_scale.of_fused(optimizer))
        norm = self._immediate.norm_now(plan, grads, metrics, scale)
        step = Step(self.step, optimizer, plan.parameters, grads, norm, scale)
        try:
            return treat(self.treatments, step, metrics)
        except SystemExit:  # a guard ends the process; the step that made it is told
            self._record(plan, optimizer, left_out(metrics))
            raise

    def _read_after(
        self, closure: Callable[[], Any], plan: Plan, optimizer: Optimizer
    ) -> Callable[[], Any]:
        def read() -> StepMetrics:
            metrics = self._read(plan, optimizer)
            self._judge(plan, metrics)
            return metrics

        return self._closure.wrap(closure, lambda: self.boundary.run(read))

    def _judge(self, plan: Plan, metrics: StepMetrics) -> None:
        """Look into gradients that are not finite, unless the optimizer has acted on them."""
        closure = self._closure
        if not closure.has_acted:
            evaluation = closure.evaluations if closure.is_open else 0
            self.judge.on_metrics(plan, metrics, self._stepping, self._loss.value, evaluation)

    # Rows

    def _record(self, plan: Plan, optimizer: Optimizer | None, metrics: StepMetrics) -> None:
        """Write the row of a step whose numbers are known."""
        if self._deferred.pending.waiting:
            self._deferred.deliver(wait=True)  # this process steps on an accelerator as well
        norm = metrics.grad_norm
        if norm is not None and not math.isfinite(norm):
            self._judge(plan, metrics)
        lr = lr_of(optimizer)
        if lr is not None and type(lr) is not float:
            lr = float(lr)
        loss = self._loss.value
        if loss is not None and type(loss) is not float:
            loss = float(loss)
        self._write(plan, optimizer, time.time(), loss, lr, metrics)
        self._loss.is_used = True
        if self._rows.step >= self._weights.next_step:
            self._weights.after_step(plan)

    def _launch(self, plan: Plan, optimizer: Optimizer | None, grads: list[Tensor | None]) -> None:
        """Record a step whose numbers are on an accelerator, without waiting for any of them."""
        if is_capturing():
            return
        self._deferred.deliver()
        now = time.time()

        def done(metrics: StepMetrics | None, loss: float | None, lr: float | None) -> None:
            if metrics is None:
                self._rows.skipped += 1
            else:
                self._write(plan, None, now, loss, lr, metrics)

        lr = lr_of(optimizer)
        self._deferred.begin(plan, grads, optimizer, self._loss.value, lr, done)
        if self.judge.check is not None:
            self._deferred.deliver(wait=True)
        self._loss.is_used = True
        self._weights.after_launch(plan, self._deferred)

    def _write(
        self,
        plan: Plan,
        optimizer: Optimizer | None,
        now: float,
        loss: float | None,
        lr: float | None,
        metrics: StepMetrics,
    ) -> None:
        sink = self._rows.open()
        if self.graph is not None:
            norms, norm = metrics.norms, metrics.grad_norm
            self.graph.on_step(self._rows.step, self._columns, plan.ids, norms, norm, optimizer)
        self._rows.write(sink, plan, now, loss, lr, metrics)
        self._calls_at_step = self.backward_calls
        if self.judge.check is not None:
            self.judge.after_row()

    def name_of(self, key: int) -> str | None:
        """Return the name of the parameter with an id, None where no step has used it."""
        return self._columns.name_of(key)

    def _given_model(self) -> nn.Module | None:
        return None if self._model is None else self._model()

    # The end

    def look_at_last(self, scopes: Iterable[Scope]) -> None:
        """Find what is wrong with a loss that the script stopped at without a backward call."""
        if self.graph is not None and self.backward_calls:
            graph = self.graph
            self.boundary.run(lambda: graph.look_at(bad_losses(scopes), self.step))

    def finish(self) -> None:
        """Record what is still on its way, and a fault that no step followed; waits for devices."""
        self.boundary.run(lambda: self.judge.finish(self._loss.value))
        self.boundary.run(lambda: self._deferred.deliver(wait=True))

    def retire(self) -> None:
        """Let go of all that is the script's, for good; what was counted can still be asked."""
        self.boundary.retire()
        if self.graph is not None:
            self.graph.retire()
        self.judge.retire()
        self.treatments = TreatmentPipeline()
        self._columns.release()
        self._clips.clear()
        self._loss.release()
        self._closure.end()
        self._deferred.pending.waiting.clear()
        self._stepping, self._leaves, self._backward = None, [], None
