"""What the script's clipping calls saw since the last backward call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from torch import Tensor

from gainstage.attach.names.columns import Plan
from gainstage.norms.deferred import Number
from gainstage.norms.replace import Clipped

Before = tuple[list[float | None], float, float | None, float | None]
"""Norms, total, max_norm and coefficient of a step that was clipped once, all of it together."""


class Clips:
    """Norms from before the script clipped, by which the record is written afterwards."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[int], Clipped]] = []
        """The ids of the parameters, and what the call saw."""

    def note(self, clipped: Clipped, scale: float | Tensor) -> None:
        """Keep what a call saw, with the loss scale taken out that was still in it."""
        if isinstance(scale, Tensor) or scale != 1.0:
            limit = None if clipped.max_norm is None else clipped.max_norm / scale
            norms = divided(clipped.norms, scale)
            clipped = Clipped(clipped.parameters, norms, limit, clipped.coefficient)
        self.calls.append((list(map(id, clipped.parameters)), clipped))

    def clear(self) -> None:
        """Forget the calls, as a backward call makes new gradients."""
        self.calls.clear()

    def of_whole(self, plan: Plan) -> Before | None:
        """Return what the only call saw, as floats, if it clipped just the plan's gradients."""
        if len(self.calls) != 1:
            return None
        ids, clipped = self.calls[0]
        if clipped.total is None or ids != plan.ids:
            return None
        return cast("Before", (clipped.norms, clipped.total, clipped.max_norm, clipped.coefficient))

    def before(
        self,
        plan: Plan,
        grads: list[Tensor | None],
        scale: float | Tensor,
        read: Callable[[list[Tensor | None]], Sequence[Number]],
    ) -> list[Number]:
        """Return the script's limit, its coefficient, and the norms as they were before it clipped.

        Args:
            plan: Whose norms.
            grads: Its gradients, by now clipped.
            scale: The factor that is in those which no clipping call saw.
            read: Returns the norms of these.
        """
        if len(self.calls) == 1 and self.calls[0][0] == plan.ids:
            clipped = self.calls[0][1]
            return [clipped.max_norm, clipped.coefficient, *clipped.norms]
        before: dict[int, Number] = {}
        max_norm: Number = None
        coefficient: Number = None
        mine = set(plan.ids)
        for ids, clipped in self.calls:
            if mine.isdisjoint(ids):
                continue
            for each, norm in zip(ids, clipped.norms, strict=True):
                before.setdefault(each, norm)
            if clipped.coefficient is not None:
                coefficient = (1.0 if coefficient is None else coefficient) * clipped.coefficient
                max_norm = clipped.max_norm
        rest = [None if each in before else g for each, g in zip(plan.ids, grads, strict=True)]
        norms = divided(read(rest), scale)
        norms = [before.get(each, norm) for each, norm in zip(plan.ids, norms, strict=True)]
        return [max_norm, coefficient, *norms]


def divided(norms: Sequence[Number], scale: float | Tensor) -> Sequence[Number]:
    """Return norms without the loss scale that is in them."""
    if not isinstance(scale, Tensor) and scale == 1.0:
        return norms
    return [None if norm is None else norm / scale for norm in norms]
