"""A least `eps` for the optimizer: `raise-eps`."""

from __future__ import annotations

from typing import Any

from gainstage.treat.treatment import Treatment


class RaiseEps(Treatment):
    """Let no group's `eps` be below a least one for the time of the step.

    An `eps` of 0 makes Adam divide 0 by 0 where a gradient has always been 0; one far below the
    gradients' own noise turns noise into full steps.
    """

    def __init__(self, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = eps
        self._own: list[tuple[dict[str, Any], Any]] = []

    def begin(self, optimizer: Any) -> None:
        """Raise those below."""
        groups = [group for group in optimizer.param_groups if "eps" in group]
        for group in groups:
            if isinstance(group["eps"], (int, float)) and group["eps"] < self.eps:
                self._own.append((group, group["eps"]))
                group["eps"] = self.eps
        if not groups and not self.notes:
            self.notes.append(f"raise-eps changes nothing: {type(optimizer).__name__} has no eps")
        self.touched += bool(self._own)

    def end(self, optimizer: Any) -> None:
        """Give the script its own back."""
        for group, own in self._own:
            if group["eps"] == self.eps:
                group["eps"] = own
        self._own.clear()
