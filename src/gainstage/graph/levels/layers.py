"""Which nodes of a graph are layers: those into which a weight matrix or kernel enters."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from gainstage.graph.nodes.readers import leaf_of, parents_of
from gainstage.graph.nodes.walk import Node
from gainstage.graph.operations.table import hands_on, source_of


def layers_of(nodes: Sequence[Node]) -> dict[int, Tensor]:
    """Return, by place in the forward order, the weight of each node that uses one.

    A weight is a parameter of two dimensions or more. A recurrent cell uses one at every time step.
    """
    layers: dict[int, Tensor] = {}
    for place, node in enumerate(nodes):
        if hands_on(node):
            continue
        for parent in parents_of(node):
            source = source_of(parent)
            weight = None if source is None else leaf_of(source)
            if weight is not None and weight.ndim >= 2:
                layers[place] = weight
                break
    return layers
