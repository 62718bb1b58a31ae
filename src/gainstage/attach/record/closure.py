"""Reads a step whose optimizer calls a closure, as LBFGS does: each time the closure returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gainstage.attach.record.metrics import StepMetrics


class ClosureReader:
    """Follows one step with a closure. What its last call has left is the step's."""

    def __init__(self) -> None:
        self.is_open = False
        """Whether such a step is running."""
        self.evaluations = 0
        """Calls of the closure so far, where they are read."""
        self.metrics: StepMetrics | None = None
        """Of the last call; None where calls are not read as they return."""
        self._read: Callable[[], StepMetrics | None] | None = None

    def begin(self) -> None:
        """Begin a step."""
        self.is_open, self.evaluations, self.metrics = True, 0, None

    def end(self) -> None:
        """End the step; a closure of it that somebody has kept is read no more."""
        self.is_open, self.metrics, self._read = False, None, None

    def wrap(
        self, closure: Callable[[], Any], read: Callable[[], StepMetrics | None]
    ) -> Callable[[], Any]:
        """Return the closure with a reading after each call, until the step ends.

        Args:
            closure: The script's.
            read: Returns the metrics of what the closure has left; raises nothing.
        """
        self._read = read

        def read_closure() -> Any:
            loss = closure()
            if self._read is not None:
                self.evaluations += 1
                self.metrics = self._read()
            return loss

        return read_closure

    @property
    def has_acted(self) -> bool:
        """Whether the optimizer may have moved parameters since the gradients were last read."""
        return self.is_open and self.evaluations == 0


def closure_of(args: Any, kwargs: Any) -> Callable[[], Any] | None:
    """Return the closure that `step` is called with, None where it is called without one."""
    closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
    return closure if callable(closure) else None


def with_closure(args: Any, kwargs: Any, closure: Callable[[], Any]) -> tuple[Any, Any]:
    """Return the arguments of `step` with another closure."""
    if "closure" in kwargs:
        return args, {**kwargs, "closure": closure}
    return (args[0], closure, *args[2:]), kwargs
