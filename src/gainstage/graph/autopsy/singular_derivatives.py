"""The culprit of a step whose loss was finite but whose gradients are not.

When that is seen, backward has freed what the nodes saved. So the few nodes whose derivative can be
infinite keep theirs a little longer, until the step is judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gainstage.facts.fault import FaultEvidence
from gainstage.graph.autopsy.batch import Entrance, batch_in, entering, samples_of
from gainstage.graph.autopsy.derivative import Derivative, derivative_of
from gainstage.graph.autopsy.explain import explain, share_of
from gainstage.graph.autopsy.find import Culprit, inputs_of, settings_of
from gainstage.graph.autopsy.path import loss_side, path_down, path_up
from gainstage.graph.autopsy.values import evaluate, given_of, in_float64
from gainstage.graph.nodes.finite import dtype_name, largest_finite, status_of
from gainstage.graph.nodes.isolated_thread import run_isolated
from gainstage.graph.nodes.saved import output_shape, saved
from gainstage.graph.nodes.walk import Consumers, Node, consumers_of, forward_number, leaves_above
from gainstage.graph.operations.operation import OperationKind
from gainstage.graph.operations.table import op_of, operation_of

MASK_HOPS = 4
"""How far above a softmax a mask is looked for."""


@dataclass(frozen=True, slots=True)
class SavedNode:
    """One node whose derivative can be infinite, with what it saved."""

    node: Node
    operands: dict[str, Any]
    """What the node saved, by name; its result as `result`. Not copied."""
    versions: tuple[int, ...]
    """How often each tensor had been written to when it was held."""


@dataclass(frozen=True, slots=True)
class SavedOperands:
    """What is kept beyond backward. Drop it once the step is judged."""

    entries: tuple[SavedNode, ...]
    graph: Sequence[Node]
    """All nodes, in forward order."""
    entrances: tuple[Entrance, ...]
    """Where the batch entered, and in which shapes."""
    bytes: int
    """Of the storages held, parameters among them, each counted once."""


def singular(nodes: Iterable[Node]) -> list[Node]:
    """Return the nodes whose derivative can be infinite, or whose infinite result can be hidden.

    Told by kind and settings alone: log is, x³ and x / 2 are not. A softmax only counts where a
    mask is near above it. Call it where the graph's shape is new, and keep the places.
    """
    return [node for node in nodes if _is_singular(node)]


def _is_singular(node: Node) -> bool:
    operation = operation_of(node)
    if operation.singular is None:
        return False
    if operation.hazard == "masked-row" and not _is_masked(node):
        return False
    names = (*operation.settings, *operation.edges)
    return operation.singular({name: saved(node, name) for name in names})


def _is_masked(node: Node) -> bool:
    for _ in range(MASK_HOPS):
        parent = node.next_functions[0][0] if node.next_functions else None
        if parent is None:
            return False
        operation = operation_of(parent)
        is_free = any(each is None for each, _ in parent.next_functions)
        if operation.masks or (operation.adds == "sum" and is_free):
            return True
        node = parent
    return False


def hold(
    nodes: Iterable[Node], graph: Sequence[Node], entrances: Iterable[Node] | None = None
) -> SavedOperands:
    """Return references to what the nodes saved, so that backward does not free it.

    Call it as backward begins. Copies nothing and does not wait for the device; about 10 µs a node.

    Args:
        nodes: As `singular` returns them.
        graph: All nodes of the graph, as `walk` returns them.
        entrances: The nodes at which the batch enters, as `entering` finds them, where they are
            known from an earlier step of the same shape; None: all nodes are asked.
    """
    entries: list[SavedNode] = []
    storages: dict[int, int] = {}
    for node in nodes:
        operands = given_of(node)
        operation = operation_of(node)
        if not all(name in operands for name in operation.edges):
            for name in operation.results:
                value = saved(node, name)
                if isinstance(value, Tensor):
                    operands[name] = value.detach()
        tensors = list(inputs_of(operands).values())
        entries.append(SavedNode(node, operands, tuple(t._version for t in tensors)))
        storages.update(_storages(tensors))
    shapes = entering(graph if entrances is None else entrances)
    return SavedOperands(tuple(entries), graph, tuple(shapes), sum(storages.values()))


def _storages(tensors: list[Tensor]) -> dict[int, int]:
    return {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in tensors
        if tensor.layout is torch.strided
    }


def find_backward(held: SavedOperands, finite: Mapping[int, bool]) -> Culprit | None:
    """Return the node whose derivative made gradients non-finite although the loss was finite.

    Of the held nodes whose derivative is not finite, the one nearest to the loss above which all
    non-finite gradients lie; if there is none such, the one that explains most of them.

    Args:
        held: What was held as this backward began.
        finite: By `id` of each leaf tensor, whether its gradient is finite. Leaves without one are
            left out.

    Returns:
        None if all gradients are finite, or no held node explains a non-finite one (an overflow on
        the way, say).
    """
    bad = {leaf for leaf, is_finite in finite.items() if not is_finite}
    if not bad:
        return None
    return run_isolated(lambda: _find_backward(held, bad))


def _find_backward(held: SavedOperands, bad: set[int]) -> Culprit | None:
    consumers = consumers_of(held.graph)
    best: tuple[int, SavedNode, Derivative] | None = None
    for entry in sorted(held.entries, key=lambda e: forward_number(e.node), reverse=True):
        taken = {output for _, _, output in consumers.get(entry.node, ())} or {0}
        found = _judge(entry, taken)
        if found is None:
            continue
        edges = [
            edge for edge, name in enumerate(operation_of(entry.node).edges) if name in found.bad
        ]
        above = {id(leaf.variable) for leaf in leaves_above(entry.node, edges)}
        explained = len(above & bad)
        if explained and (best is None or explained > best[0]):
            best = (explained, entry, found)
        if explained == len(bad):
            break
    if best is None:
        return None
    return _culprit(held, bad, *best)


def _judge(entry: SavedNode, taken: set[int]) -> Derivative | None:
    """Return the derivative of a held node if it is not finite."""
    tensors = inputs_of(entry.operands).values()
    if any(tensor._version != held for tensor, held in zip(tensors, entry.versions, strict=True)):
        return None  # written over since
    operation = operation_of(entry.node)
    operands = completed(entry.node, operation, entry.operands)
    tracked = [
        operation.edge_name(edge)
        for edge, (parent, _) in enumerate(entry.node.next_functions)
        if parent is not None
    ]
    found = derivative_of(operation, operands, tracked, taken)
    return found if found is not None and found.bad else None


def completed(node: Node, operation: OperationKind, held: Mapping[str, Any]) -> dict[str, Any]:
    """Return a node's arguments, put together from its result where only that was saved.

    A linear argument that torch does not need for the derivative, such as the numerator of a
    quotient with a constant, is taken as 1.
    """
    operands = dict(held)
    if operation.compose is not None and all(name in operands for name in operation.results):
        operands[operation.edges[0]] = operation.compose(operands)
    for name in operation.edges:
        if name in operands:
            continue
        if operation.recover is not None and "result" in operands:
            operands[name] = operation.recover(operands["result"])
            continue
        like = next((v for v in operands.values() if isinstance(v, Tensor)), None)
        shape = output_shape(node)
        if like is not None and shape is not None and like.is_floating_point():
            operands[name] = like.new_ones(shape)
    return operands


def _culprit(
    held: SavedOperands, bad: set[int], explained: int, entry: SavedNode, found: Derivative
) -> Culprit:
    node, operation = entry.node, operation_of(entry.node)
    consumers = consumers_of(held.graph)
    operands = completed(node, operation, entry.operands)
    result = next(iter(evaluate(operation, operands)), None)
    where = next(iter(found.bad.values()))
    status = None if result is None else status_of(result)
    if status is not None and not status.finite and result is not None:
        told = entry.operands if operation.recover is not None else operands
        account = explain(operation, told, result)
        kind, where = account.kind, account.where if account.where is not None else where
        hidden_by = _hidden_by(node, held, consumers)
        evidence = replace(account.evidence, is_hidden=True, hidden_by=hidden_by)
    else:
        wide = derivative_of(operation, in_float64(operands), list(found.bad), found.outputs)
        overflows = wide is not None and not wide.bad
        kind = "overflow" if overflows else "singular-derivative"
        evidence = _of_derivative(node, operands, found, overflows=overflows)
    leaves = {leaf for leaf in leaves_above(node) if id(leaf.variable) in bad}
    samples, time_step = samples_of(where, batch_in(held.entrances, consumers), node)
    return Culprit(
        node=node,
        op=op_of(node),
        kind=kind,
        evidence=replace(evidence, explained=explained, nonfinite_gradients=len(bad)),
        is_backward=True,
        samples=samples,
        time_step=time_step,
        chain=path_up(node, leaves),
        after_last_parameter=loss_side(node, consumers),
        result=result,
        inputs=inputs_of(operands),
        settings=settings_of(operands, node),
    )


def _hidden_by(node: Node, held: SavedOperands, consumers: Consumers) -> str | None:
    """Return the operation that keeps a node's result from the loss."""
    ends = [each for each in held.graph if each not in consumers]
    for each in path_down(node, ends, consumers)[1:]:
        operation = operation_of(each)
        if operation.drops_values:
            return operation.op
    return None


def _of_derivative(
    node: Node, operands: Mapping[str, Any], found: Derivative, *, overflows: bool
) -> FaultEvidence:
    name, where = next(iter(found.bad.items()))
    value = operands.get(name)
    dtype = value.dtype if isinstance(value, Tensor) else None
    evidence = FaultEvidence(
        reason="derivative-overflow",
        float64_finite=overflows,
        share=share_of(where),
        argument=name,
        dtype=None if dtype is None else dtype_name(dtype),
        largest_finite=None if dtype is None else largest_finite(dtype),
    )
    if overflows:
        return evidence
    if operation_of(node).hazard == "equal-values":
        return replace(evidence, reason="derivative-of-equal-values")
    evidence = replace(evidence, reason="derivative-infinite")
    if not isinstance(value, Tensor):
        return evidence
    first = (value[where.expand(value.shape)] if where.dim() else value.reshape(-1))[0]
    if value.is_complex():
        at = complex(first)
        return replace(evidence, at=at.real, at_imaginary=at.imag)
    return replace(evidence, at=float(first))
