"""Every node that a backward call would visit, in the order in which the forward pass made them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from gainstage.graph.nodes.release import keep, sweep

Node = Any
"""A node of autograd's graph, as `grad_fn` gives it.

A node has one Python object for as long as it lives (torch 2.13), and before that equal ones: nodes
are safe as keys of sets and dicts.
"""

Consumers = dict[Node, list[tuple[Node, int, int]]]
"""Who takes a node's outputs: (consumer, the consumer's edge, the node's output)."""

LEAF_NUMBER = 2**64 - 1
"""The sequence number of every `AccumulateGrad`: they have no place of their own in the order."""


def walk(roots: Iterable[Tensor]) -> list[Node]:
    """Return the nodes that the roots depend on, leaves first, then in forward order.

    Forward order is that of `_sequence_nr()`, which counts in each thread for itself. Iterative;
    holds one reference a node. Nodes of a deep graph are kept until they can be let go of safely.
    """
    sweep()
    nodes = sorted(reached(root.grad_fn for root in roots), key=forward_number)
    keep(nodes)
    return nodes


def reached(starts: Iterable[Node | None]) -> list[Node]:
    """Return the nodes that others depend on, these with them, those nearest to them first."""
    seen: dict[Node, None] = {node: None for node in starts if node is not None}
    queue = list(seen)
    for node in queue:
        for parent, _ in node.next_functions:
            if parent is not None and parent not in seen:
                seen[parent] = None
                queue.append(parent)
    return queue


def forward_number(node: Node) -> int:
    """Return the node's place in forward order; leaves come before all others."""
    number = node._sequence_nr()
    return -1 if number == LEAF_NUMBER else number


def is_leaf(node: Node) -> bool:
    """Return whether the node is where a leaf tensor enters the graph."""
    return type(node).__name__ == "AccumulateGrad"


def consumers_of(nodes: Iterable[Node]) -> Consumers:
    """Return for each node who takes its outputs.

    Nodes that nobody takes from, such as the loss, have no entry.
    """
    consumers: Consumers = {}
    for node in nodes:
        for edge, (parent, output) in enumerate(node.next_functions):
            if parent is not None:
                consumers.setdefault(parent, []).append((node, edge, output))
    return consumers


def leaves_above(node: Node, edges: Iterable[int] | None = None) -> set[Node]:
    """Return the `AccumulateGrad` nodes from which the node's inputs were computed.

    Args:
        node: Where to begin.
        edges: Only what these edges of the node depend on; None for all.
    """
    wanted = range(len(node.next_functions)) if edges is None else edges
    return {
        each for each in reached(node.next_functions[edge][0] for edge in wanted) if is_leaf(each)
    }
