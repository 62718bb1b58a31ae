"""What a training process is doing, one row an optimizer step: the hot path of watching."""

from __future__ import annotations

import functools
import math
import operator
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, cast

from torch import Tensor, nn
from torch.optim import Optimizer

from gainstage.attach.fault.unseen_loss import Scope, bad_losses
from gainstage.attach.names.columns import Columns, Plan
from gainstage.attach.names.loss_scale import LossScale
from gainstage.attach.names.watched_script import WatchedScript
from gainstage.attach.record.clips import Clips, divided
from gainstage.attach.record.functional_gradients import FunctionalGradients
from gainstage.attach.record.pending_rows import PendingRows
from gainstage.attach.record.protection import Protection
from gainstage.attach.record.rows import Norms, Reading, Rows, Sink
from gainstage.attach.sample.graph_watch import GraphWatch
from gainstage.facts.tensor import TensorInfo
from gainstage.graph.nodes.leaves import leaves_of
from gainstage.norms.deferred import (
    Fetch,
    Number,
    deferred_norms,
    fetched_norms,
    is_capturing,
    total_of,
)
from gainstage.norms.replace import Clipped
from gainstage.norms.total import gradient_norms, small_norms
from gainstage.treat.pipeline import TreatmentPipeline
from gainstage.treat.treatment import Backward, Step, Treatment

_WEIGHTS_SHARE = 0.2
"""Part of the overhead budget that reading the weights may use."""

_STEPS_BETWEEN_LATE_WEIGHTS = 64
"""On an accelerator, where what reading costs is not seen from here: 1.6% of a gradient read."""

_GRAD = operator.attrgetter("grad")


class Check(Protocol):
    """What `gainstage check` does at the moments of a recorder."""

    def before_backward(self, recorder: Recorder, roots: Sequence[Any], /) -> None:
        """Read a graph while it is whole."""
        ...

    def after_row(self, recorder: Recorder, /) -> None:
        """End the process, if the step just recorded was the last one asked for."""
        ...

    def on_skipped(self, recorder: Recorder, /) -> None:
        """Take note that a loss scaler left a step out."""
        ...


class Recorder:
    """Turns what hooks see into rows. One a process; its methods run in the training thread.

    A failure in here never reaches the script: it is reported once and watching ends.
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
        self._open_sink = open_sink
        self._on_fault = on_fault
        self._weights_share = max(budget * _WEIGHTS_SHARE, 1e-6)
        self.has_optimizer = False
        self._model = None if model is None else weakref.ref(model)
        self.graph = graph
        self.script = WatchedScript(model)
        self.forget()
        self.treatments = TreatmentPipeline(treatments)

    def forget(self) -> None:
        """Begin anew, as a forked child must: no step, no sink, no treatments, no protection."""
        self.step_calls = 0
        self.backward_calls = 0
        self._calls_at_step = -1
        self.returned = FunctionalGradients(self)
        self.in_backward = False
        self.loss_scale = LossScale()
        self.treatments = TreatmentPipeline()
        self.protection: Protection | None = None
        """Black box and guard; the guard is besides the last of the treatments."""
        self.check: Check | None = None
        self._columns = Columns(self._model)
        self._rows = Rows(self._open_sink, self._columns, self.graph, self._weights_share)
        self._late = PendingRows()
        self._late_steps = 0
        self._loss: Number = None
        self._loss_used = True
        self._clips = Clips()
        self._skipped = 0
        self._stepping: Optimizer | None = None
        self._in_closure = False
        self._evaluations = 0
        self._closure_reading: Reading | None = None
        self._leaves: list[Tensor] = []
        self._backward: Backward | None = None
        self._dead = False

    @property
    def is_dead(self) -> bool:
        """Whether watching has ended, by an error of our own."""
        return self._dead

    @property
    def step(self) -> int:
        """The index of the optimizer step to come."""
        return self._rows.step

    def fault(self, error: BaseException) -> None:
        """Report an error of our own once, and stop watching."""
        if not self._dead:
            self._dead = True
            self._on_fault(error)

    # Backward

    def before_backward(self, tensors: Any, *, accumulates: bool = True) -> None:
        """Note the loss. Runs before the outermost backward call.

        Args:
            tensors: What it is called on.
            accumulates: Whether it adds to gradients; else they are returned.
        """
        if self._dead:
            return
        try:
            self.backward_calls += 1
            if self._clips.calls:
                self._clips.clear()
            roots: Sequence[Any] = tensors if isinstance(tensors, (list, tuple)) else (tensors,)
            is_finite = self._add_loss(roots)
            if not self._in_closure:
                self._stepping = None
            if self.check is not None:
                self.check.before_backward(self, roots)
            if self.graph is not None:
                scale = self.loss_scale.current()
                loss = self._loss if type(self._loss) is float else None
                self.graph.before_backward(
                    roots, self.step, scale, loss, is_finite=is_finite, accumulates=accumulates
                )
            if not self.has_optimizer:
                self._leaves = leaves_of(root for root in roots if isinstance(root, Tensor))
            if self.treatments:
                self._backward = Backward(self.step, roots)
                self.treatments.before_backward(self._backward)
        except Exception as error:
            self.fault(error)

    def after_backward(self, *, accumulates: bool = True) -> None:
        """Write the row where no optimizer will: a script that steps by hand.

        Args:
            accumulates: Whether gradients have been added to the leaves'; else they are returned.
        """
        if self._dead:
            return
        try:
            if self.graph is not None:
                self.graph.after_backward()
            if self._backward is not None:
                backward, self._backward = self._backward, None
                self.treatments.after_backward(backward)
            if self.has_optimizer or not self._leaves or not accumulates:
                self._leaves = []
                return
            leaves, self._leaves = self._leaves, []
            self.on_gradients(leaves, [leaf.grad for leaf in leaves])
        except Exception as error:
            self.fault(error)

    def on_gradients(self, parameters: list[Tensor], grads: list[Tensor | None]) -> None:
        """Write the row of a step that the script takes by hand, from the gradients it has."""
        if self._dead:
            return
        try:
            plan = self._columns.plan_for(parameters, [len(parameters)])
            if self.treatments:
                self._record(plan, None, self._read(plan, None, is_treated=True, grads=grads))
                self.treatments.end(None, self.step)
            elif plan.on_cpu:
                self._record(plan, None, self._read(plan, None, grads=grads))
            else:
                self._record_late(plan, None, grads)
        except Exception as error:
            self.fault(error)

    def add_loss(self, value: Tensor) -> None:
        """Note a loss of which the graph cannot be had."""
        self.backward_calls += 1
        self._add_loss([value])

    def _add_loss(self, roots: Sequence[Any]) -> bool:
        """Add to the loss of the coming step, as gradients of several backward calls add up.

        Within a closure the last call counts: its gradient is the one that is used.

        Returns:
            Whether it is finite, as far as that is known without waiting for a device.
        """
        is_finite = True
        if self._loss_used or self._in_closure:
            self._loss, self._loss_used = None, False
        for root in roots:
            if isinstance(root, Tensor) and root.numel() == 1:
                value = self.loss_scale.unscaled_loss(root)
                known = self._loss
                if isinstance(known, Tensor) and isinstance(value, Tensor):
                    known = known.to(value.device, non_blocking=True)
                self._loss = value if known is None else known + value
                is_finite = is_finite and (isinstance(value, Tensor) or math.isfinite(value))
        return is_finite

    # Clipping

    def on_clip(self, clipped: Clipped) -> None:
        """Keep the norms that a clipping call read, before it writes."""
        if self._dead:
            return
        try:
            if not clipped.parameters:
                if self.graph is not None:
                    limit = clipped.max_norm
                    self.graph.audit.on_empty_clip(None if isinstance(limit, Tensor) else limit)
                return
            scale = self.loss_scale.of(clipped.parameters)
            self._clips.note(clipped, scale)
            if self.graph is not None:
                self.graph.audit.on_clip(
                    self.step,
                    clipped,
                    is_after_step=self.backward_calls == self._calls_at_step,
                    scale=1.0 if isinstance(scale, Tensor) else scale,
                )
        except Exception as error:
            self.fault(error)

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
        if self.protection is None or self._dead:
            return
        try:
            self.protection.on_parameters(optimizer, self._given_model())
        except Exception as error:
            self.fault(error)

    def before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        """Record the step and treat it; a step with a closure is recorded when it has run.

        Returns:
            None, or the arguments of `step` with the closure replaced by a treated one.
        """
        self.step_calls += 1
        if self._dead:
            return None
        try:
            self.has_optimizer = True
            if self._stepping is not None and self._stepping is not optimizer:
                return None  # an optimizer that steps within another one's step
            self._stepping = optimizer
            closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
            if self.treatments:
                if self.protection is not None:
                    self.protection.before_treatments(optimizer, self._given_model())
                self.treatments.begin(optimizer, self.step)
            if not callable(closure):
                plan = self._columns.plan_of(optimizer)
                scaled = "found_inf" in optimizer.__dict__
                if plan.on_cpu and not (scaled or self._clips.calls or self.treatments):
                    read = small_norms if plan.is_small else gradient_norms
                    norms, total = read(list(map(_GRAD, plan.parameters)))
                    skipped, self._skipped = self._skipped, 0
                    self._record(plan, optimizer, (norms, total, None, None, skipped))
                elif not plan.on_cpu and not self.treatments:
                    self._record_late(plan, optimizer)
                elif self.loss_scale.found_inf(optimizer) > 0:
                    self.on_skipped()
                else:
                    self._record(plan, optimizer, self._read(plan, optimizer))
                return None
            self._in_closure, self._closure_reading, self._evaluations = True, None, 0
            protection, plan = self.protection, self._columns.plan_of(optimizer)
            if not self.treatments and (protection is None or not protection.reads_closures(plan)):
                return None
            treated = self._treated(optimizer, closure)
            if "closure" in kwargs:
                return args, {**kwargs, "closure": treated}
            return (args[0], treated, *args[2:]), kwargs
        except Exception as error:
            self.fault(error)
            return None

    def after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Undo what treatments changed for the step, and record one that had a closure."""
        if self._stepping is not optimizer:
            return
        if not self.treatments and not self._in_closure:
            self._stepping = None
            return
        try:
            self.treatments.end(optimizer, self.step + self._in_closure)
            if self._in_closure and not self._dead:
                plan = self._columns.plan_of(optimizer)
                reading = self._closure_reading or self._read(plan, None)
                self._record(plan, optimizer, reading)
        except Exception as error:
            self.fault(error)
        finally:
            self._stepping, self._in_closure = None, False

    def on_skipped(self) -> None:
        """Count a step that a loss scaler left out."""
        self._skipped += 1
        if self.graph is not None:
            self.graph.on_skipped()
        self._clips.clear()
        self._loss_used = True
        if self.protection is not None:
            self.protection.on_skipped()
        if self.check is not None:
            self.check.on_skipped(self)

    def _treated(self, optimizer: Optimizer, closure: Callable[[], Any]) -> Callable[[], Any]:
        plan = self._columns.plan_of(optimizer)

        def treated() -> Any:
            loss = closure()
            self._evaluations += 1
            try:
                reading = self._closure_reading = self._read(plan, optimizer)
                self._protect(plan, reading[0], reading[1])
            except Exception as error:
                self.fault(error)
            return loss

        return treated

    # Rows

    def _read(
        self,
        plan: Plan,
        treated: Optimizer | None,
        *,
        is_treated: bool | None = None,
        grads: list[Tensor | None] | None = None,
    ) -> Reading:
        """Read the gradients, and treat them where an optimizer is given or it is asked for.

        Waits for an accelerator; without treatments and closures `_record_late` is there instead.
        """
        if self._clips.calls and not self.treatments:
            known = self._clips.of_whole(plan)
            if known is not None:
                skipped, self._skipped = self._skipped, 0
                return (*known, skipped)
        if grads is None:
            grads = [parameter.grad for parameter in plan.parameters]
        read = gradient_norms if plan.on_cpu else fetched_norms
        max_norm = coefficient = None
        scale = 1.0 if treated is None else self.loss_scale.of_fused(treated)
        if self._clips.calls:
            numbers = self._clips.before(plan, grads, scale, lambda rest: read(rest)[0])
            if any(isinstance(number, Tensor) for number in numbers):
                numbers = Fetch(numbers).numbers()
            max_norm, coefficient, *norms = cast("Norms", numbers)
            total = total_of(norms)
        else:
            norms, total = read(grads)
            scale = float(scale)
            if scale != 1.0 and total is not None:
                norms, total = [n if n is None else n / scale for n in norms], total / scale
        skipped, self._skipped = self._skipped, 0
        if is_treated is None:
            is_treated = treated is not None
        if self.treatments and is_treated:
            self._protect(plan, norms, total)
            scale, current = float(scale), total
            if self._clips.calls:
                norm = read(grads)[1]
                current = None if norm is None else norm / scale
            step = Step(self.step, treated, plan.parameters, grads, current, scale)
            try:
                self.treatments.treat(step)
            except SystemExit:  # a guard ends the process; the step that made it is told
                self._record(plan, treated, (norms, total, max_norm, coefficient, -1))
                raise
            if step.coefficient is not None:
                coefficient = (1.0 if coefficient is None else coefficient) * step.coefficient
                max_norm = step.max_norm
            skipped = -1 if step.skipped else skipped
        return norms, total, max_norm, coefficient, skipped

    def _record(self, plan: Plan, optimizer: Optimizer | None, reading: Reading) -> None:
        """Write the row of a step whose numbers are known."""
        if self._late.waiting:
            self._late.deliver(wait=True)  # this process steps on the CPU as well
        self._protect(plan, reading[0], reading[1])
        loss, lr = self._loss, _lr(optimizer)
        if loss is not None and type(loss) is not float:
            loss = float(loss)
        if lr is not None and type(lr) is not float:
            lr = float(lr)
        now = time.time()
        self._write(plan, optimizer, now, loss, lr, reading)
        self._loss_used = True
        self._rows.sample_weights(plan, now)

    def _write(
        self,
        plan: Plan,
        optimizer: Optimizer | None,
        now: float,
        loss: float | None,
        lr: float | None,
        reading: Reading,
    ) -> None:
        self._rows.write(plan, optimizer, now, loss, lr, reading)
        self._calls_at_step = self.backward_calls
        if self.check is not None:
            self.check.after_row(self)

    def _protect(self, plan: Plan, norms: Sequence[float | None], total: float | None) -> None:
        """Have the state saved where a gradient is not finite and the optimizer has not acted yet.

        It has where a closure was not read as it returned.
        """
        if total is None or math.isfinite(total) or (self._in_closure and self._evaluations == 0):
            return
        if self.graph is not None:
            self.graph.judge(self.step, self._columns, plan.ids, norms, self._stepping)
        places = plan.columns or range(len(plan.parameters))
        hurt = [c for c, n in zip(places, norms, strict=True) if n is not None and n - n != 0]
        self._fail(plan, hurt)

    def _fail(self, plan: Plan | None, hurt: Sequence[int]) -> None:
        if self.protection is None:
            return
        self._rows.open()
        columns, model = self._columns, self._given_model()
        names = [columns.tensors[column].name for column in hurt]
        evaluation = self._evaluations if self._in_closure else 0
        facts = {"nonfinite": names, "loss": self._loss, "evaluation": evaluation}
        self.protection.fail(self.step, plan, facts, columns, self.loss_scale, model)

    def name_of(self, key: int) -> str | None:
        """Return the name of the parameter with an id, None where no step has used it."""
        return self._columns.name_of(key)

    def _given_model(self) -> nn.Module | None:
        return None if self._model is None else self._model()

    # Accelerators

    def _record_late(
        self, plan: Plan, optimizer: Optimizer | None, grads: list[Tensor | None] | None = None
    ) -> None:
        """Record a step whose numbers are on an accelerator, without waiting for any of them."""
        if is_capturing():
            return
        self._late.deliver()
        if grads is None:
            grads = [parameter.grad for parameter in plan.parameters]
        scale = 1.0 if optimizer is None else self.loss_scale.of_fused(optimizer)
        found_inf = 0.0 if optimizer is None else self.loss_scale.found_inf(optimizer)
        if self._clips.calls:
            numbers = self._clips.before(plan, grads, scale, deferred_norms)
            scale = 1.0
        else:
            numbers = [None, None, *deferred_norms(grads)]
        now = time.time()

        def finish(numbers: list[float | None]) -> None:
            found_inf, scale, loss, lr, max_norm, coefficient, *norms = numbers
            if found_inf:
                self._skipped += 1
                return
            if scale != 1.0:
                norms = cast("Norms", divided(norms, scale or 1.0))
            skipped, self._skipped = self._skipped, 0
            reading = (norms, total_of(norms), max_norm, coefficient, skipped)
            self._write(plan, None, now, loss, lr, reading)

        self._late.add([found_inf, scale, self._loss, _lr(optimizer), *numbers], finish)
        if self.check is not None:
            self._late.deliver(wait=True)
        self._loss_used = True
        self._late_steps += 1
        if self._late_steps % _STEPS_BETWEEN_LATE_WEIGHTS == 1:
            plans = self._columns.plans() or [plan]
            weights = [parameter.data for each in plans for parameter in each.parameters]
            self._late.add(
                deferred_norms(weights), functools.partial(self._rows.append_weights, plans)
            )

    def look_at_last(self, scopes: Iterable[Scope]) -> None:
        """Find what is wrong with a loss that the script stopped at without a backward call."""
        if self._dead or self.graph is None or not self.backward_calls:
            return
        try:
            self.graph.look_at(bad_losses(scopes), self.step)
        except Exception as error:
            self.fault(error)

    def finish(self) -> None:
        """Record what is still on its way, and a fault that no step followed; waits for devices."""
        if self._dead:
            return
        try:
            if self.graph is not None and self.graph.faults.is_loss_bad:
                self._rows.open()
                self.graph.judge(self.step, self._columns, (), (), None)
            if self.protection is not None and self.protection.has_fault_of(self.step):
                self._fail(None, [])
            if self.graph is not None:
                self.graph.faults.forget()
            self._late.deliver(wait=True)
        except Exception as error:
            self.fault(error)


def _lr(optimizer: Optimizer | None) -> Number:
    """Return the learning rate of an optimizer's first group."""
    groups = [] if optimizer is None else optimizer.param_groups
    lr = groups[0].get("lr") if groups else None
    return lr if lr is None or type(lr) is float or isinstance(lr, Tensor) else float(lr)
