"""An autograd graph as a whole: its nodes in the order of the forward pass, and who reads whom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor

from gainstage.graph.nodes.walk import Consumers, Node, consumers_of, is_leaf, walk


@dataclass(frozen=True, slots=True)
class Graph:
    """The nodes below some roots. Holds them all, so that they compare by identity."""

    nodes: list[Node]
    """Those of operations, in forward order."""
    consumers: Consumers

    def readers_of(self, node: Node) -> list[tuple[Node, int]]:
        """Return the nodes that take a node's result, and as which operand."""
        return [(reader, operand) for reader, operand, _ in self.consumers.get(node, ())]


def read_graph(roots: Iterable[Tensor]) -> Graph:
    """Return the graph that a backward call from these roots would walk: some µs a node.

    Call it before `backward`, which frees the graph.
    """
    nodes = walk(roots)
    return Graph([node for node in nodes if not is_leaf(node)], consumers_of(nodes))


def leaf_of(node: Node) -> Tensor | None:
    """Return the leaf tensor of an `AccumulateGrad` node, None for any other."""
    return node.variable if is_leaf(node) else None


def parents_of(node: Node) -> Iterator[Node]:
    """Yield the nodes whose results a node takes."""
    for parent, _ in node.next_functions:
        if parent is not None:
            yield parent
