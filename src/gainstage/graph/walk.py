"""All nodes of a graph, in the order in which the forward pass made them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor


def walk(roots: Iterable[Tensor]) -> list[Any]:
    """Return the nodes that the roots depend on; leaves first."""
    found = set()
    queue = [root.grad_fn for root in roots if root.grad_fn is not None]
    while queue:
        node = queue.pop()
        if node in found:
            continue
        found.add(node)
        queue.extend(parent for parent, _ in node.next_functions if parent is not None)
    return sorted(found, key=lambda node: node._sequence_nr())
