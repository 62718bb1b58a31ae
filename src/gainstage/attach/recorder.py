"""What a training process is doing, one row an optimizer step: the hot path of watching."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from gainstage.attach.columns import Columns, Plan
from gainstage.attach.loss_scale import LossScale
from gainstage.graph.leaves import leaves_of
from gainstage.norms.replace import Clipped
from gainstage.norms.total import combine_norms, gradient_norms
from gainstage.records import TensorInfo
from gainstage.store.ring import Row
from gainstage.treat.treatment import Step, Treatment

_WEIGHTS_SHARE = 0.2
"""Part of the overhead budget that reading the weights may use."""

Norms = list[float | None]


class Sink(Protocol):
    """Where rows go, such as a `StepWriter`."""

    def append(self, row: Row) -> None:
        """Take the row of one step; called on every step, so it must not wait."""
        ...

    def append_weights(self, step: int, norms: Sequence[float | None]) -> None:
        """Take the 2-norms of the parameters before a step."""
        ...

    def set_tensors(self, tensors: Sequence[TensorInfo]) -> None:
        """Take the watched parameters anew; they are only ever appended to."""
        ...


@dataclass(slots=True)
class _Reading:
    """The gradients of one step, as they were before anything clipped them.

    Not frozen, for that would double the time it takes to make one, on every step.
    """

    norms: Norms
    total: float | None
    max_norm: float | None
    coefficient: float | None
    skipped: int


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
    ) -> None:
        """Make a recorder that opens its sink on the first step.

        Args:
            open_sink: Called once, with the parameters known by then.
            model: Searched for the names of parameters, besides what variables hold.
            treatments: Applied to every step, in this order.
            budget: Share of the training time that sampled reads may take.
            on_fault: Called once with an error of gainstage's own, after which nothing is watched.
        """
        self._open_sink = open_sink
        self._on_fault = on_fault
        self._weights_share = max(budget * _WEIGHTS_SHARE, 1e-6)
        self.has_optimizer = False
        self._model = None if model is None else weakref.ref(model)
        self.forget()
        self.treatments = tuple(treatments)

    def forget(self) -> None:
        """Begin anew, as a forked child must: with step 0, no sink and no treatments."""
        self.step = 0
        self.step_calls = 0
        self.backward_calls = 0
        self.grad_calls = 0
        self.in_backward = False
        self.loss_scale = LossScale()
        self.treatments: Sequence[Treatment] = ()
        self._sink: Sink | None = None
        self._columns = Columns(self._model)
        self._announced = 0
        self._loss: float | None = None
        self._loss_used = True
        self._clips: list[tuple[list[int], Clipped]] = []
        self._skipped = 0
        self._stepping: Optimizer | None = None
        self._in_closure = False
        self._closure_reading: _Reading | None = None
        self._leaves: list[Tensor] = []
        self._weights_due = 0.0
        self._dead = False

    def fault(self, error: BaseException) -> None:
        """Report an error of our own once, and stop watching."""
        if not self._dead:
            self._dead = True
            self._on_fault(error)

    # Backward

    def before_backward(self, tensors: Any) -> None:
        """Note the loss. Runs before the outermost backward call."""
        if self._dead:
            return
        try:
            self.backward_calls += 1
            if self._clips:
                self._clips.clear()
            roots: Sequence[Any] = tensors if isinstance(tensors, (list, tuple)) else (tensors,)
            self._add_loss(roots)
            if not self._in_closure:
                self._stepping = None
            if not self.has_optimizer:
                self._leaves = leaves_of(root for root in roots if isinstance(root, Tensor))
        except Exception as error:
            self.fault(error)

    def after_backward(self) -> None:
        """Write the row where no optimizer will: a script that steps by hand."""
        if self.has_optimizer or self._dead or not self._leaves:
            return
        try:
            leaves, self._leaves = self._leaves, []
            plan = self._columns.plan_for(leaves, [len(leaves)])
            self._write(plan, self._read(plan, None), None)
        except Exception as error:
            self.fault(error)

    def _add_loss(self, roots: Sequence[Any]) -> None:
        """Add to the loss of the coming step, as gradients of several backward calls add up.

        Within a closure the last call counts: its gradient is the one that is used.
        """
        if self._loss_used or self._in_closure:
            self._loss, self._loss_used = None, False
        for root in roots:
            if isinstance(root, Tensor) and root.is_cpu and root.numel() == 1:
                value = self.loss_scale.unscaled_loss(root)
                self._loss = value if self._loss is None else self._loss + value

    # Clipping

    def on_clip(self, clipped: Clipped) -> None:
        """Keep the norms that a clipping call read, before it writes."""
        if self._dead:
            return
        try:
            scale = self.loss_scale.of(clipped.parameters)
            if scale != 1.0 and clipped.norms is not None:
                limit = None if clipped.max_norm is None else clipped.max_norm / scale
                norms = _divided(clipped.norms, scale)
                clipped = Clipped(clipped.parameters, norms, limit, clipped.coefficient)
            self._clips.append((list(map(id, clipped.parameters)), clipped))
        except Exception as error:
            self.fault(error)

    # Optimizers

    def on_optimizer(self, optimizer: Optimizer) -> None:
        """Note that an optimizer exists, so that its steps count and not the backward calls."""
        self.has_optimizer = True
        self._columns.expect(optimizer)

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
            if self._stepping is not None:
                self._end_treatments(optimizer)  # its last step raised an error
            self._stepping = optimizer
            closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
            for treatment in self.treatments:
                treatment.begin(optimizer)
            if not callable(closure):
                plan = self._columns.plan_of(optimizer)
                if self.loss_scale.found_inf(optimizer):
                    self.on_skipped()
                else:
                    self._write(plan, self._read(plan, optimizer), optimizer)
                return None
            self._in_closure, self._closure_reading = True, None
            if not self.treatments:
                return None
            treated = self._treated(optimizer, closure)
            if "closure" in kwargs:
                return args, {**kwargs, "closure": treated}
            return (args[0], treated, *args[2:]), kwargs
        except Exception as error:
            self.fault(error)
            return None

    def after_step(self, optimizer: Optimizer) -> None:
        """Undo what treatments changed for the step, and record one that had a closure."""
        if self._stepping is not optimizer:
            return
        try:
            self._end_treatments(optimizer)
            if self._in_closure and not self._dead:
                plan = self._columns.plan_of(optimizer)
                reading = self._closure_reading or self._read(plan, None)
                self._write(plan, reading, optimizer)
        except Exception as error:
            self.fault(error)
        finally:
            self._stepping, self._in_closure = None, False

    def on_skipped(self) -> None:
        """Count a step that a loss scaler left out."""
        self._skipped += 1
        self._clips.clear()
        self._loss_used = True

    def _end_treatments(self, optimizer: Optimizer) -> None:
        for treatment in self.treatments:
            treatment.end(optimizer)

    def _treated(self, optimizer: Optimizer, closure: Callable[[], Any]) -> Callable[[], Any]:
        plan = self._columns.plan_of(optimizer)

        def treated() -> Any:
            loss = closure()
            try:
                self._closure_reading = self._read(plan, optimizer)
            except Exception as error:
                self.fault(error)
            return loss

        return treated

    # Rows

    def _read(self, plan: Plan, treated: Optimizer | None) -> _Reading:
        """Read the gradients, and treat them where an optimizer is given."""
        grads = [parameter.grad for parameter in plan.parameters]
        max_norm = coefficient = None
        scale = 1.0 if treated is None else self.loss_scale.of_fused(treated)
        if self._clips:
            norms, total, max_norm, coefficient = self._before_clip(plan, grads, scale)
        else:
            norms, total = gradient_norms(grads)
            if scale != 1.0 and total is not None:
                norms, total = _divided(norms, scale), total / scale
        skipped, self._skipped = self._skipped, 0
        if treated is None:
            return _Reading(norms, total, max_norm, coefficient, skipped)
        if self.treatments:
            current = gradient_norms(grads)[1] if self._clips else total
            step = Step(self.step, treated, plan.parameters, grads, current)
            for treatment in self.treatments:
                treatment.treat(step)
            if step.coefficient is not None:
                coefficient = (1.0 if coefficient is None else coefficient) * step.coefficient
                max_norm = step.max_norm
            skipped = -1 if step.skipped else skipped
        return _Reading(norms, total, max_norm, coefficient, skipped)

    def _write(self, plan: Plan, reading: _Reading, optimizer: Optimizer | None) -> None:
        columns = self._columns
        sink = self._sink
        if sink is None:
            sink = self._sink = self._open_sink(columns.tensors)
            self._announced = len(columns.tensors)
        elif self._announced != len(columns.tensors):
            sink.set_tensors(columns.tensors)
            self._announced = len(columns.tensors)
        groups = [] if optimizer is None else optimizer.param_groups
        lr = float(groups[0]["lr"]) if groups and "lr" in groups[0] else None
        now = time.time()
        sink.append(
            (
                self.step,
                now,
                self._loss,
                lr,
                reading.total,
                reading.max_norm,
                reading.coefficient,
                reading.skipped,
                columns.spread(plan, reading.norms),
            )
        )
        self._loss_used = True
        if now >= self._weights_due:
            self._sample_weights(sink, columns.plans() or [plan])
        self.step += 1

    def _before_clip(
        self, plan: Plan, grads: list[Tensor | None], scale: float
    ) -> tuple[Norms, float | None, float | None, float | None]:
        """Return norms as they were before the script clipped, its limit and its coefficient."""
        if len(self._clips) == 1 and self._clips[0][0] == plan.ids:
            clipped = self._clips[0][1]
            if clipped.norms is not None:
                total = combine_norms([norm for norm in clipped.norms if norm is not None], 2.0)
                return clipped.norms, total, clipped.max_norm, clipped.coefficient
        before: dict[int, float | None] = {}
        max_norm = coefficient = None
        mine = set(plan.ids)
        for ids, clipped in self._clips:
            if clipped.norms is None or mine.isdisjoint(ids):
                continue
            for each, norm in zip(ids, clipped.norms, strict=True):
                before.setdefault(each, norm)
            if clipped.coefficient is not None:
                coefficient = (1.0 if coefficient is None else coefficient) * clipped.coefficient
                max_norm = clipped.max_norm
        rest = [None if each in before else g for each, g in zip(plan.ids, grads, strict=True)]
        read = _divided(gradient_norms(rest)[0], scale)
        norms = [before.get(each, norm) for each, norm in zip(plan.ids, read, strict=True)]
        there = [norm for norm in norms if norm is not None]
        return norms, combine_norms(there, 2.0) if there else None, max_norm, coefficient

    def _sample_weights(self, sink: Sink, plans: Sequence[Plan]) -> None:
        """Read the weights as often as the budget allows, by what the last time took."""
        began = time.perf_counter()
        row: Norms = [None] * len(self._columns.tensors)
        for plan in plans:
            norms, _ = gradient_norms([parameter.data for parameter in plan.parameters])
            for column, norm in zip(plan.columns or range(len(norms)), norms, strict=True):
                row[column] = norm
        sink.append_weights(self.step, row)
        took = time.perf_counter() - began
        self._weights_due = time.time() + took / self._weights_share


def _divided(norms: Norms, scale: float) -> Norms:
    return [None if norm is None else norm / scale for norm in norms]
