"""What a loss was made by: a sum over elements, or their mean."""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Final, cast

from torch import Tensor

from gainstage.facts.observation import LossMade, Reduction
from gainstage.graph.nodes.saved import saved
from gainstage.graph.operations.table import operation_of

_REDUCTIONS: Final[dict[int, Reduction]] = {0: "none", 1: "mean", 2: "sum"}
_MOST_NODES: Final = 16
_MOST_ELEMENTS: Final = 2.0**62
_STILL_A_SUM: Final = 0.1
"""A smaller factor is taken for a division by the number of elements."""


def loss_made(root: Tensor) -> LossMade:
    """Return what a loss was made by: its last operation, and over how many elements it sums.

    `summed_elements` counts what is added up without being divided again, as the last operations
    of the graph tell, of the largest term where there are several; 1 for a mean.
    """
    name = "" if root.grad_fn is None else root.grad_fn.name()
    summed_elements, found = 1, cast("Reduction | None", None)
    waiting: deque[tuple[Any, float]] = deque([(root.grad_fn, 1.0)])
    for _ in range(_MOST_NODES):
        if not waiting:
            break
        node, factor = waiting.popleft()
        if node is None:
            continue
        kind = operation_of(node)
        reduction = kind.reduction or _REDUCTIONS.get(getattr(node, "_saved_reduction", -1))
        if reduction == "sum":
            count = round(min(factor * _elements(node), _MOST_ELEMENTS))
            if found is None or count > summed_elements:
                found = "sum" if count > 1 else "mean"
                summed_elements = max(1, count)
        elif reduction is not None:
            found = found or reduction
        elif kind.adds or kind.moves == "whole" or kind.negates:
            waiting.extend((parent, factor) for parent, _ in node.next_functions)
        elif kind.scales:
            number = saved(node, "other")
            if not isinstance(number, Tensor) or number.requires_grad:
                continue
            if number.numel() == 1 and number.is_cpu:  # another device would be waited for
                by = abs(number.item())
                factor *= by if kind.scales == "product" else 1 / max(by, 1e-9)
                if _STILL_A_SUM <= factor < math.inf:
                    waiting.append((node.next_functions[0][0], factor))
    return LossMade(node=name, summed_elements=summed_elements, reduction=found)


def _elements(node: Any) -> int:
    """Return how many elements a reducing node has taken together."""
    for name in ("_saved_target", "_saved_self"):
        value = getattr(node, name, None)
        if isinstance(value, Tensor):
            return value.numel()
    sizes = getattr(node, "_saved_self_sym_sizes", None)
    return math.prod(int(size) for size in sizes) if sizes is not None else 1
