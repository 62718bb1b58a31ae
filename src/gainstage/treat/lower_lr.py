"""A lower learning rate, whatever the script and its scheduler set."""

from __future__ import annotations

from typing import Any

from gainstage.treat.treatment import Step


class LowerLr:
    """Multiply every group's learning rate for the time of the step.

    The script and its scheduler go on seeing their own rate, so that a schedule keeps its shape.
    """

    remedy = "lower-lr"

    def __init__(self, factor: float = 0.1) -> None:
        self.factor = factor
        self.touched = 0
        self._own: list[tuple[dict[str, Any], Any]] = []

    def settings(self) -> dict[str, float]:
        """Return the settings by name."""
        return {"factor": self.factor}

    def begin(self, optimizer: Any) -> None:
        """Lower the rates."""
        for group in optimizer.param_groups:
            if "lr" in group:
                self._own.append((group, group["lr"]))
                group["lr"] = group["lr"] * self.factor
        self.touched += 1

    def treat(self, step: Step) -> None:
        """Change no gradient."""

    def end(self, optimizer: Any) -> None:
        """Give the rates back, unless the step itself has set another."""
        for group, own in self._own:
            lowered = group["lr"]
            if lowered is not own and bool(lowered == own * self.factor):
                group["lr"] = own
        self._own.clear()
