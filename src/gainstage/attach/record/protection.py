"""What protects a training from its failures: the black box, and what a guard must be told."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from torch import Tensor, nn
from torch.optim import Optimizer

from gainstage.attach.names.columns import Columns, Plan
from gainstage.attach.names.loss_scale import LossScale
from gainstage.attach.names.parameters import root_modules, variables_of
from gainstage.blackbox.training_state import Training
from gainstage.blackbox.write import BlackBox, FaultTensors
from gainstage.facts.fault import Fault
from gainstage.treat.guard.guard import Guard


class Protection:
    """Black box and guard of one process. The recorder calls it in the training thread."""

    def __init__(self, blackbox: BlackBox, guard: Guard | None) -> None:
        """Put together.

        Args:
            blackbox: Written at the first failure.
            guard: Told what it must know; it is besides the last of the recorder's treatments.
        """
        self._blackbox = blackbox
        self._guard = guard
        self._lrs: dict[int, object] = {}

    def note_fault(self, fault: Fault, tensors: FaultTensors) -> None:
        """Hold what the autopsy of a step found, for the black box if the step does harm.

        A loss scaler may yet leave the step out. Else it is written before the optimizer steps, or
        as the process ends where no step follows.
        """
        self._blackbox.note(fault, tensors)

    def has_fault_of(self, step: int) -> bool:
        """Tell whether a fault was noted in a step that was not made."""
        return self._blackbox.has_fault_of(step)

    def reads_closures(self, plan: Plan) -> bool:
        """Tell whether a closure is read as it returns, for a box made before its step ends.

        Not on an accelerator, where that would wait.
        """
        return not self._blackbox.is_done and plan.on_cpu

    def on_parameters(self, optimizer: Optimizer, model: nn.Module | None) -> None:
        """Tell the guard of an optimizer's parameters, best before their first forward pass."""
        if self._guard is None:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        roots = root_modules(parameters, sys._getframe(), model)
        self._guard.prepare(optimizer, [root for _, root in roots])

    def before_treatments(self, optimizer: Optimizer, model: nn.Module | None) -> None:
        """Note what treatments may change for the time of a step."""
        if self._guard is not None and not self._guard.knows(optimizer):
            self.on_parameters(optimizer, model)
        self._lrs = {id(g): g["lr"] for g in optimizer.param_groups if "lr" in g}

    def on_skipped(self) -> None:
        """Let go of what belonged to a step that a loss scaler left out."""
        self._blackbox.forget()
        if self._guard is not None:
            self._guard.passed()

    def retire(self) -> None:
        """Let go of what is the script's."""
        self._blackbox.forget()
        self._guard = None
        self._lrs = {}

    def fail(
        self,
        step: int,
        plan: Plan | None,
        facts: Mapping[str, object],
        columns: Columns,
        loss_scale: LossScale,
        model: nn.Module | None,
    ) -> None:
        """Write the black box, before a gradient that is not finite does harm.

        Args:
            step: The step that is not made yet.
            plan: What it would change, besides what the optimizers' steps have changed.
            facts: For the box's JSON; a tensor of one element becomes a number.
            columns: Knows parameters and optimizers.
            loss_scale: Knows the scaler, if there is one.
            model: A module to look into besides what variables hold.
        """
        if self._blackbox.is_done:
            return
        frame = sys._getframe()

        def training() -> Training:
            parameters = columns.named_parameters([*columns.plans(), *([plan] if plan else [])])
            optimizers = columns.optimizers()
            labels = variables_of(optimizers, frame)
            named = [
                (labels.get(id(each), f"optimizer{number or ''}"), each)
                for number, each in enumerate(optimizers)
            ]
            return Training(
                root_modules(list(parameters.values()), frame, model),
                parameters,
                named,
                loss_scale.state(),
                {} if self._guard is None else self._guard.statistics.by_id(),
                self._lrs,
            )

        plain = {k: v.item() if isinstance(v, Tensor) else v for k, v in facts.items()}
        self._blackbox.write(step, training, plain)
