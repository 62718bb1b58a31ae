"""Guards: what happens when a gradient that is not finite is about to reach the optimizer.

A guard is a treatment that acts last, and only then. It waits for an accelerator once a step, and
where `torch.distributed` is in use all ranks decide alike, by one all-reduce of one number a step.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable
from typing import Any, Final, NoReturn, Protocol

import torch
from torch import nn
from torch.optim import LBFGS

from gainstage.treat.guard.rollback import Rollback
from gainstage.treat.guard.snapshot import Statistics
from gainstage.treat.optimizer.skipped_step import SkippedStep
from gainstage.treat.spec import Spec
from gainstage.treat.treatment import Step, Treatment

EXIT_STOPPED: Final = 3


class Report(Protocol):
    """Takes what a guard did, for the run's record."""

    def __call__(self, event: str, step: int, message: str, **details: Any) -> None:
        """Take one event."""
        ...


class Guard(Treatment):
    """Keep parameters, optimizer state and statistics of batch norm from a bad step.

    A bad step is one whose gradients, as they are after all treatments, hold NaN or inf. `skip`
    leaves it out; `stop` ends the process with exit code 3; `rollback` leaves it out and goes on
    from an earlier state. Steps of LBFGS are let through: it has moved the parameters before its
    second evaluation tells anything.
    """

    def __init__(self, spec: Spec, report: Report) -> None:
        """Make the guard that a spec of `GUARDS` names.

        Args:
            spec: `skip`, `stop` or `rollback` with its settings.
            report: Takes each thing that it did.
        """
        super().__init__()
        self.remedy = f"guard-{spec.remedy}"
        self.values = spec.settings
        self.statistics = Statistics()
        self._spec = spec
        self._report = report
        self._skipped = SkippedStep()
        self._rollback = None
        if spec.remedy == "rollback":
            to, factor = (float(spec.settings[name]) for name in ("to", "factor"))
            self._rollback = Rollback(to=int(to), factor=factor)
        self._optimizers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._has_refused = False

    def knows(self, optimizer: Any) -> bool:
        """Tell whether `prepare` was called for the optimizer."""
        return optimizer in self._optimizers

    def prepare(self, optimizer: Any, roots: Iterable[nn.Module]) -> None:
        """Take an optimizer and the modules it trains, best before their first forward pass."""
        self._optimizers.add(optimizer)
        self.statistics.watch(roots)

    def passed(self) -> None:
        """Take the statistics as they are after a step that a loss scaler left out.

        Its forward pass counts, as without us, unless it has made them other than finite.
        """
        if not self.statistics.is_finite():
            self.statistics.restore()
        self.statistics.keep()

    def begin(self, optimizer: Any) -> None:
        """Lower the learning rate, where the training was rolled back."""
        if self._rollback is not None:
            self._rollback.begin(optimizer)

    def treat(self, step: Step) -> None:
        """Judge the step.

        Raises:
            SystemExit: Where the guard ends the process.
        """
        if isinstance(step.optimizer, LBFGS):
            self._refuse(step)
        elif not _is_bad(step):
            if self._rollback is not None:
                self._rollback.keep(list(self._optimizers), self.statistics)
        elif self._spec.remedy == "stop":
            self._stop(step, "a gradient is not finite")
        else:
            self.touched += 1
            if self._rollback is None:
                message = "left out: a gradient is not finite"
                self._report("skipped", step.index, message, grad_norm=step.grad_norm)
            else:
                self._roll_back(step, self._rollback)
            self._skipped.take(step)
            self.statistics.restore()

    def end(self, optimizer: Any) -> None:
        """Give gradients and rates back, and keep the statistics for the next step."""
        self._skipped.give_back()
        if self._rollback is not None:
            self._rollback.end(optimizer)
        self.statistics.keep()

    def _roll_back(self, step: Step, rollback: Rollback) -> None:
        why = rollback.why_not()
        if why is not None:
            self._stop(step, why)
        back = rollback.restore()
        self.statistics.keep()
        self._report(
            "rolled back",
            step.index,
            f"a gradient is not finite: back by {back} good steps, learning rate times "
            f"{rollback.lr_factor:g} from here on",
            good_steps=back,
            lr_factor=rollback.lr_factor,
            snapshots_bytes=rollback.nbytes,
        )

    def _stop(self, step: Step, why: str) -> NoReturn:
        self.touched += 1
        self._report("stopped", step.index, f"{why}; the optimizer has not used it")
        raise SystemExit(EXIT_STOPPED)

    def _refuse(self, step: Step) -> None:
        if not self._has_refused:
            self._has_refused = True
            message = "steps of LBFGS go unguarded: it evaluates several times within one"
            self._report("refused", step.index, message)


def _is_bad(step: Step) -> bool:
    """Tell whether a gradient of the step is not finite, on this rank or on any other one."""
    is_bad = step.grad_norm is not None and not math.isfinite(step.grad_norm)
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return is_bad
    if distributed.get_world_size() == 1:
        return is_bad
    flag = torch.tensor([float(is_bad)], device=step.parameters[0].device)
    distributed.all_reduce(flag, distributed.ReduceOp.MAX)
    return bool(flag.item())
