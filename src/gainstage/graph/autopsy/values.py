"""The values that flowed along the graph's edges: found where saved, or computed again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from gainstage.graph.nodes.finite import Status, status_of
from gainstage.graph.nodes.saved import output_shape, read, saved, saved_tensors
from gainstage.graph.nodes.walk import Node, consumers_of, is_leaf
from gainstage.graph.operations.operation import Operands, OperationKind
from gainstage.graph.operations.table import operation_of
from gainstage.readable import has_memory

COMPUTED_BYTES = 2**28
"""How much of what was computed again is kept at once; older values go first."""

Value = tuple[Node, int]
"""One output of one node."""


class Values:
    """What is known of the values of a graph. Make it anew for every backward call.

    A value is known where the node itself or whoever took it saved it, where it is a leaf or a
    root, and else where it can be computed from known ones. Use it without gradients.
    """

    def __init__(self, nodes: Iterable[Node], roots: Iterable[Tensor] = ()) -> None:
        self.consumers = consumers_of(nodes)
        self._roots = {
            (root.grad_fn, root.output_nr): root.detach() for root in roots if has_memory(root)
        }
        self._unsaved: set[Value] = set()
        self._computed: dict[Node, tuple[Tensor, ...]] = {}
        self._bytes = 0
        self._statuses: dict[Value, Status | None] = {}

    def value(self, node: Node, output: int = 0) -> Tensor | None:
        """Return the output's value; None where it is not known."""
        known = self.known(node, output)
        if known is not None:
            return known
        for each in self._unknown_above(node):
            self._compute(each)
        results = self._computed.get(node, ())
        return results[output] if output < len(results) else None

    def status(self, node: Node, output: int = 0) -> Status | None:
        """Return whether the output is finite; None where its value is not known."""
        key = (node, output)
        if key not in self._statuses:
            value = self.value(node, output)
            self._statuses[key] = None if value is None else status_of(value)
        return self._statuses[key]

    def seen(self, node: Node, edge: int) -> Status | None:
        """Return whether what a node sees through one of its edges is finite.

        That is less than the value where the node is a `where` or a mask: half of it is hidden.
        """
        parent, output = node.next_functions[edge]
        status = self.status(parent, output)
        operation = operation_of(node)
        if status is None or status.finite or not operation.masks:
            return status
        mask = saved(node, operation.data[0]) if operation.data else None
        value = self.value(parent, output)
        if mask is None or value is None:
            return status
        shown = mask if operation.moves == "either" and edge == 0 else ~mask
        try:
            return status_of(torch.where(shown.detach(), value, torch.zeros_like(value)))
        except RuntimeError:
            return status

    def operands(self, node: Node) -> dict[str, Any]:
        """Return the node's arguments by name; those that are not known are left out."""
        found = given_of(node)
        operation = operation_of(node)
        for edge in self._missing(node):
            parent, output = node.next_functions[edge]
            value = self.value(parent, output)
            if value is not None:
                found[operation.edge_name(edge)] = value
        return _listed(found, operation, len(node.next_functions))

    def known(self, node: Node, output: int) -> Tensor | None:
        """Return the output's value where something holds it; nothing is computed."""
        if is_leaf(node):
            leaf: Tensor = node.variable
            return leaf.detach() if has_memory(leaf) else None
        if (node, output) in self._roots:
            return self._roots[node, output]
        if (node, output) in self._unsaved:
            return None
        for holder in self._holders(node, output):
            for _, tensor in saved_tensors(holder):
                if tensor.output_nr == output and tensor.grad_fn == node:
                    return tensor.detach()
        self._unsaved.add((node, output))
        return None

    def known_from_copy(self, node: Node, output: int = 0) -> Tensor | None:
        """Return the output's value where only a copy in a wider dtype is held: it is the same.

        A float16 output that a loss takes in float32 is such: the loss holds the float32 one.
        """
        dtype = _dtype(node)
        for consumer, _, taken in self.consumers.get(node, ()):
            if taken == output and operation_of(consumer).casts and dtype is not None:
                copy = self.known(consumer, 0)
                if copy is not None and torch.promote_types(dtype, copy.dtype) == copy.dtype:
                    return copy.to(dtype)
        return None

    def _holders(self, node: Node, output: int) -> Iterator[Node]:
        yield node
        for consumer, _, taken in self.consumers.get(node, ()):
            if taken == output:
                yield consumer

    def _missing(self, node: Node) -> list[int]:
        """Return the edges whose value the node did not save itself."""
        operation = operation_of(node)
        return [
            edge
            for edge, (parent, _) in enumerate(node.next_functions)
            if parent is not None and not isinstance(saved(node, operation.edge_name(edge)), Tensor)
        ]

    def _unknown_above(self, node: Node) -> Iterator[Node]:
        """Yield the nodes to compute for this one, in an order in which each can be."""
        stack = [(node, False)]
        entered: set[Node] = set()
        while stack:
            current, ready = stack.pop()
            if ready:
                yield current
                continue
            if current in self._computed or current in entered:
                continue
            entered.add(current)
            if operation_of(current).forward is None:
                continue
            stack.append((current, True))
            for edge in self._missing(current):
                parent, output = current.next_functions[edge]
                if self.known(parent, output) is None:
                    stack.append((parent, False))

    def _compute(self, node: Node) -> None:
        operation = operation_of(node)
        found = given_of(node)
        for edge in self._missing(node):
            parent, output = node.next_functions[edge]
            value = self.known(parent, output)
            results = self._computed.get(parent, ())
            if value is None and output < len(results):
                value = results[output]
            if value is not None:
                found[operation.edge_name(edge)] = value
        results = evaluate(operation, _listed(found, operation, len(node.next_functions)))
        self._computed[node] = results
        for output, result in enumerate(results):
            self._statuses[node, output] = status_of(result)
        self._bytes += sum(result.nbytes for result in results)
        while self._bytes > COMPUTED_BYTES and len(self._computed) > 1:
            oldest = next(iter(self._computed))
            self._bytes -= sum(result.nbytes for result in self._computed.pop(oldest))


def given_of(node: Node) -> dict[str, Any]:
    """Return the arguments that the node itself saved, and the form of its result. No copies."""
    operation = operation_of(node)
    found: dict[str, Any] = {"shape": output_shape(node), "dtype": _dtype(node)}
    for name in (*operation.settings, *operation.data):
        _note(found, node, name)
    for edge, name in enumerate(operation.edges):
        parent = node.next_functions[edge][0] if edge < len(node.next_functions) else None
        value = saved(node, name)
        if value is not None:
            found[name] = value.detach() if isinstance(value, Tensor) else value
        elif parent is None:
            _note(found, node, name)
            if name == "bias" and name not in found:
                _note_absent_bias(found, node)
    return found


def evaluate(operation: OperationKind, operands: Operands) -> tuple[Tensor, ...]:
    """Return the results of an operation on its arguments; none where they do not suffice."""
    if operation.forward is None:
        return ()
    try:
        result = operation.forward(operands)
    except (LookupError, RuntimeError, TypeError, ValueError, ArithmeticError, AttributeError):
        # Arguments are missing, or this build of torch cannot do it: unknown, which is an answer.
        return ()
    if isinstance(result, Tensor):
        return (result.detach(),)
    return tuple(each.detach() for each in result if isinstance(each, Tensor))


def in_float64(operands: Operands) -> dict[str, Any]:
    """Return the arguments with all numbers in double precision."""
    return {name: _wide(value) for name, value in operands.items()}


def _wide(value: Any) -> Any:
    if isinstance(value, Tensor):
        if value.is_complex():
            return value.to(torch.complex128)
        return value.double() if value.is_floating_point() else value
    if isinstance(value, list):
        return [_wide(each) for each in value]
    return torch.float64 if value in (torch.float16, torch.bfloat16, torch.float32) else value


def _note(found: dict[str, Any], node: Node, name: str) -> None:
    try:
        value = read(node, name)
    except LookupError:
        return
    found[name] = value.detach() if isinstance(value, Tensor) else value


def _note_absent_bias(found: dict[str, Any], node: Node) -> None:
    try:
        given = read(node, "bias_sym_sizes_opt")
    except LookupError:
        given = found.get("weight")
    if given in (None, (), (0,)):
        found["bias"] = None


def _listed(found: dict[str, Any], operation: OperationKind, edges: int) -> dict[str, Any]:
    if not operation.variadic:
        return found
    names = [f"tensors[{edge}]" for edge in range(edges)]
    if all(name in found for name in names):
        found["tensors"] = [found[name] for name in names]
    return found


def _dtype(node: Node) -> torch.dtype | None:
    metadata = getattr(node, "_input_metadata", ())
    return metadata[0].dtype if metadata else None
