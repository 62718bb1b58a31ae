"""Ways through the graph: from a node to the loss, or to the parameters."""

from __future__ import annotations

from collections.abc import Collection

from gainstage.graph.nodes.saved import output_shape
from gainstage.graph.nodes.walk import Consumers, Node, is_leaf, reached
from gainstage.graph.operations.table import operation_of


def path_down(node: Node, ends: Collection[Node], consumers: Consumers) -> tuple[Node, ...]:
    """Return the shortest way down to one of the ends, both in it; the node if there is none."""
    before: dict[Node, Node | None] = {node: None}
    queue = [node]
    for current in queue:
        if current in ends:
            return _unwound(current, before)[::-1]
        for consumer, _, _ in consumers.get(current, ()):
            if consumer not in before:
                before[consumer] = current
                queue.append(consumer)
    return (node,)


def path_up(node: Node, ends: Collection[Node]) -> tuple[Node, ...]:
    """Return the shortest way up to one of the ends, both in it; the node if there is none."""
    before: dict[Node, Node | None] = {node: None}
    queue = [node]
    for current in queue:
        if current in ends:
            return _unwound(current, before)[::-1]
        for parent, _ in current.next_functions:
            if parent is not None and parent not in before:
                before[parent] = current
                queue.append(parent)
    return (node,)


def _unwound(node: Node, before: dict[Node, Node | None]) -> tuple[Node, ...]:
    way = [node]
    while (previous := before[way[-1]]) is not None:
        way.append(previous)
    return tuple(way)


def below(node: Node, consumers: Consumers) -> set[Node]:
    """Return the node and all that depends on it."""
    found = {node}
    queue = [node]
    while queue:
        for consumer, _, _ in consumers.get(queue.pop(), ()):
            if consumer not in found:
                found.add(consumer)
                queue.append(consumer)
    return found


def above(node: Node) -> set[Node]:
    """Return the node and all that it depends on."""
    return set(reached([node]))


def loss_side(node: Node, consumers: Consumers) -> bool:
    """Return whether no parameter enters at the node or below it, so that it belongs to the loss.

    A term that is added to a single number, such as weight decay, does not count as entering.
    """
    if is_leaf(node):
        return False
    cone = below(node, consumers)
    for each in cone:
        for parent, _ in each.next_functions:
            if parent is None or (parent in cone and parent is not node):
                continue
            if _is_parameter(parent) and not _is_term(each):
                return False
    return True


def _is_parameter(node: Node) -> bool:
    """Return whether a value is a leaf, or a leaf seen through views, casts and the like."""
    while not is_leaf(node):
        parents = node.next_functions
        if len(parents) != 1 or parents[0][0] is None or operation_of(node).moves is None:
            return False
        node = parents[0][0]
    return True


def _is_term(node: Node) -> bool:
    shape = output_shape(node)
    numbers = 1
    for size in shape or ():
        numbers *= size
    return bool(operation_of(node).adds) and shape is not None and numbers == 1
