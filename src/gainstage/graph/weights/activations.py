"""Which activation follows a layer, read from the graph and not guessed from class names."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from gainstage.graph.nodes.readers import Graph
from gainstage.graph.operations.table import hands_on, operation_of

_MOST_NODES = 64
"""Looked at for one layer: what follows is near, or is not its activation."""


@dataclass(frozen=True, slots=True)
class Activation:
    """What a layer's output passes through before the next layer."""

    name: str
    """torch's function name; `linear` where the next layer or the loss comes first."""
    slope: float = 0.0
    """Of a leaky ReLU, below 0."""


LINEAR = Activation("linear")


def activation_after(graph: Graph, node: Any) -> Activation:
    """Return the activation that consumes a node's result.

    Sums (a bias, a residual), norms, dropout, pooling and reshaping in between are passed; another
    layer, a loss or the end of the graph means that there is none. The nearest in forward order
    counts where several consume it.

    Args:
        graph: Read before backward.
        node: Of the layer's matrix product or convolution.
    """
    queue = deque([node])
    seen: set[Any] = {node}
    while queue and len(seen) <= _MOST_NODES:
        for reader, _ in sorted(
            graph.readers_of(queue.popleft()), key=lambda pair: pair[0]._sequence_nr()
        ):
            found = _as_activation(reader)
            if found is not None:
                return found
            if reader not in seen and _is_passed(reader):
                seen.add(reader)
                queue.append(reader)
    return LINEAR


def _as_activation(node: Any) -> Activation | None:
    kind = operation_of(node)
    if kind.bounds_below:
        return Activation("relu") if _is_relu(node) else None
    if kind.activation is None:
        return None
    if kind.activation == "elu" and getattr(node, "_saved_scale", 1.0) != 1.0:
        return Activation("selu")
    if kind.activation == "leaky_relu":
        slope = float(getattr(node, "_saved_negative_slope", 0.25))
        return Activation(kind.activation, slope)
    return Activation(kind.activation)


def _is_relu(node: Any) -> bool:
    """Tell whether a clamp or a maximum cuts at 0 from below only."""
    if "other" in operation_of(node).edges:
        # Of a constant operand the value is saved; of one with gradients it is another branch.
        others = [parent is None for parent, _ in node.next_functions]
        return any(others) and not bool(
            (node._saved_other if others[1] else node._saved_self).any()
        )
    low, high = getattr(node, "_saved_min", None), getattr(node, "_saved_max", None)
    return low is not None and float(low) == 0.0 and high is None


def _is_passed(node: Any) -> bool:
    kind = operation_of(node)
    return hands_on(node) or (kind.before_activation and not kind.factors)
