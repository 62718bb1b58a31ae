"""Which nodes of a graph are layers: those into which a weight matrix or kernel enters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

_THIN = {
    "TBackward0",
    "TransposeBackward0",
    "PermuteBackward0",
    "ViewBackward0",
    "UnsafeViewBackward0",
    "ReshapeAliasBackward0",
    "ExpandBackward0",
    "UnsqueezeBackward0",
    "SqueezeBackward1",
    "ToCopyBackward0",
    "CloneBackward0",
    "SplitBackward0",
    "SplitWithSizesBackward0",
    "UnbindBackward0",
    "SliceBackward0",
    "SelectBackward0",
    "AliasBackward0",
}
"""What stands between a parameter and the operation that uses it, and changes no value."""


def layers_of(nodes: Sequence[Any]) -> dict[int, Tensor]:
    """Return, by place in the forward order, the weight of each node that uses one.

    A weight is a parameter of two dimensions or more. A recurrent cell uses one at every time step.
    """
    weights: dict[Any, Tensor | None] = {}

    def weight_of(node: Any) -> Tensor | None:
        passed: list[Any] = []
        found: Tensor | None = None
        while node is not None:
            if node in weights:
                found = weights[node]
                break
            passed.append(node)
            variable = getattr(node, "variable", None)
            if isinstance(variable, Tensor):
                found = variable if variable.ndim >= 2 else None
                break
            if node.name() not in _THIN:
                break
            node = node.next_functions[0][0] if node.next_functions else None
        weights.update(dict.fromkeys(passed, found))
        return found

    layers: dict[int, Tensor] = {}
    for place, node in enumerate(nodes):
        if node.name() in _THIN:
            continue
        for parent, _ in node.next_functions:
            weight = weight_of(parent)
            if weight is not None:
                layers[place] = weight
                break
    return layers
