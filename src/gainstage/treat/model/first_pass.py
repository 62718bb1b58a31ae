"""Acting on what the first forward pass shows: its own gradients must then count for nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gainstage.graph.nodes.leaves import leaves_of
from gainstage.treat.optimizer.skipped_step import SkippedStep, zero
from gainstage.treat.treatment import Backward, ScriptView, Step

_MOST_CALLS = 200
"""Backward calls after which no more is looked for, if some parameters are in no graph at all."""


class FirstPass:
    """Follows backward calls until every parameter of the script has been seen in a graph."""

    def __init__(self) -> None:
        self._seen: dict[int, Tensor] = {}
        self._calls = 0
        self._ended = False
        self._leaves: list[Tensor] = []
        self._void: set[int] = set()
        self._newest_old_node = -1
        self._taken = SkippedStep()

    def begin(self, backward: Backward, script: ScriptView) -> list[Tensor]:
        """Return the parameters that no backward call has reached before; none once all are known.

        Where there are optimizers, a leaf that none of them holds is data, such as a coordinate
        with a gradient.
        """
        self._void.clear()
        roots = [root for root in backward.roots if isinstance(root, Tensor)]
        newest = max((_sequence_of(root) for root in roots), default=-1)
        is_old = newest < self._newest_old_node
        if self._ended and not is_old:
            return []
        self._leaves = leaves_of(roots)
        if is_old:  # this graph was made with the weights from before
            self._void = set(map(id, self._leaves))
        if self._ended:
            return []
        self._calls += 1
        wanted = {
            id(parameter)
            for optimizer in script.optimizers()
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.requires_grad
        }
        new = [
            leaf
            for leaf in self._leaves
            if id(leaf) not in self._seen and (not wanted or id(leaf) in wanted)
        ]
        self._seen |= {id(leaf): leaf for leaf in new}
        self._ended = wanted <= self._seen.keys() or self._calls >= _MOST_CALLS
        return new

    def void(self) -> None:
        """Let the gradients of this backward call count for nothing, and of graphs made before."""
        self._void = set(map(id, self._leaves))
        self._newest_old_node = _next_sequence_number()

    def end(self) -> None:
        """Set the gradients that are void to 0, NaN and inf included; backward has ended."""
        if self._void:
            for leaf in self._leaves:
                if leaf.grad is not None:
                    zero(leaf.grad)
        self._leaves = []
        if self._ended:
            self._seen.clear()

    def leave_out(self, step: Step) -> bool:
        """Leave the step out if void gradients are all it has; return whether it does."""
        if not any(id(parameter) in self._void for parameter in step.parameters):
            return False
        self._taken.take(step)
        if step.optimizer is not None:
            for parameter in step.parameters:
                if id(parameter) in self._void:  # momentum of the old weights
                    step.optimizer.state.pop(parameter, None)
        return True

    def give_back(self) -> None:
        """Let the script find its gradients again."""
        self._taken.give_back()


def _next_sequence_number() -> int:
    autograd: Any = torch._C._autograd  # pyright: ignore[reportAttributeAccessIssue]
    return int(autograd._get_sequence_nr())


def _sequence_of(root: Tensor) -> int:
    return -1 if root.grad_fn is None else int(root.grad_fn._sequence_nr())
