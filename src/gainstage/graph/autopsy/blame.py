"""Which node of a graph is the first wrong one, once a root is NaN or inf.

From the root, non-finite values are followed towards the leaves. NaN is followed to the node that
takes in no NaN. If that one takes in an inf (inf - inf, 0 × inf), the inf is followed to the node
that made it of finite values, unless the user put it there as a mask: then the first node that
could not cope with the mask is to blame, such as the softmax of a row that is masked wholly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gainstage.facts.fault import NonfiniteValue
from gainstage.graph.autopsy.values import Values
from gainstage.graph.nodes.finite import largest, nonfinite, status_of
from gainstage.graph.nodes.saved import saved, saved_tensors
from gainstage.graph.nodes.walk import Node, forward_number, is_leaf
from gainstage.graph.operations.table import is_opaque, operation_of

_RUNNING = ("running_mean", "running_var")

Reason = Literal["made", "operand", "leaf", "opaque"]


@dataclass(frozen=True, slots=True)
class Suspect:
    """A node that may be the first wrong one."""

    node: Node
    output: int
    value: NonfiniteValue
    """What it gives out."""
    reason: Reason
    operand: str | None = None
    """Where `reason` is `operand`: the argument, not tracked by autograd, that was not finite."""
    unseen: bool = False
    """Whether an argument's value is not known, so that the arguments were not judged."""


@dataclass(frozen=True, slots=True)
class _Trail:
    node: Node
    output: int
    value: NonfiniteValue
    blamed: tuple[Node, int, NonfiniteValue] | None
    """Who is to blame if the inf turns out to be a mask: (node, output, value)."""


def first_wrong(values: Values, roots: Iterable[Tensor]) -> Suspect | None:
    """Return the first wrong node in forward order; None if the roots are finite."""
    trails: list[_Trail] = []
    for root in roots:
        status = status_of(root)
        if root.grad_fn is not None and status is not None and not status.finite:
            value = "nan" if status.nan else "inf"
            trails.append(_Trail(root.grad_fn, root.output_nr, value, None))
    seen: set[tuple[Node, int, str]] = set()
    suspects: list[Suspect] = []
    while trails:
        trail = trails.pop()
        key = (trail.node, trail.output, trail.value)
        if key in seen:
            continue
        seen.add(key)
        for step in _follow(values, trail):
            if isinstance(step, Suspect):
                suspects.append(step)
            else:
                trails.append(step)
    first = min(suspects, key=lambda s: forward_number(s.node), default=None)
    return None if first is None else _first_alike(values, first)


def _first_alike(values: Values, suspect: Suspect) -> Suspect:
    """Return the first node that did the same to the same operand, and made no finite value of it.

    A derivative that is differentiated again repeats the operation whose it is: of x**p at 0 both
    x**p and x**(p - 1) are infinite, and the user wrote the first.
    """
    if suspect.reason != "made":
        return suspect
    parents = {parent for parent, _ in suspect.node.next_functions if parent is not None}
    alike = [
        node
        for parent in parents
        for node, _, _ in values.consumers.get(parent, ())
        if node.name() == suspect.node.name()
        and forward_number(node) < forward_number(suspect.node)
        and (status := values.status(node)) is not None
        and not status.finite
    ]
    if not alike:
        return suspect
    node = min(alike, key=forward_number)
    status = values.status(node)
    assert status is not None
    return Suspect(node, 0, "nan" if status.nan else "inf", "made")


def _follow(values: Values, trail: _Trail) -> Iterator[Suspect | _Trail]:
    """Yield where the trail goes on, or the suspect it ends at."""
    node, value = trail.node, trail.value
    if is_leaf(node):
        yield Suspect(node, 0, value, "leaf")
        return
    tracked = [e for e, (parent, _) in enumerate(node.next_functions) if parent is not None]
    statuses = {edge: values.seen(node, edge) for edge in tracked}
    through = [edge for edge, status in statuses.items() if status and status.holds(value)]
    if through:
        yield from (_onward(values, trail, edge) for edge in through)
        return
    operand = _bad_operand(node, value)
    if operand is not None:
        yield Suspect(node, trail.output, value, "operand", operand)
        return
    if value == "nan":
        infinite = [edge for edge, status in statuses.items() if status and status.inf]
        for edge in infinite:
            parent, output = node.next_functions[edge]
            yield _Trail(parent, output, "inf", (node, trail.output, "nan"))
        if infinite:
            return
        operand = None if operation_of(node).takes_masks else _bad_operand(node, "inf")
        if operand is not None:
            yield Suspect(node, trail.output, value, "operand", operand)
            return
    unknown = [edge for edge, status in statuses.items() if status is None]
    if unknown:
        yield from _beyond_unknown(values, trail, unknown)
    else:
        yield _maker(values, trail)


def _onward(values: Values, trail: _Trail, edge: int) -> _Trail:
    parent, output = trail.node.next_functions[edge]
    blamed = trail.blamed
    if trail.value == "inf" and not _passes_masks(values, trail, parent, output):
        blamed = (trail.node, trail.output, "inf")
    return _Trail(parent, output, trail.value, blamed)


def _passes_masks(values: Values, trail: _Trail, parent: Node, output: int) -> bool:
    """Return whether a node hands each inf on where it was, as views and scalings do."""
    if operation_of(trail.node).moves is not None:
        return True
    before, after = values.value(parent, output), values.value(trail.node, trail.output)
    if before is None or after is None or before.shape != after.shape:
        return False
    return bool(torch.equal(nonfinite(before), nonfinite(after)))


def _bad_operand(node: Node, value: NonfiniteValue) -> str | None:
    """Return the saved argument, not tracked by autograd, that holds the value."""
    # In training a batch norm writes its running statistics, and does not read them.
    written = _RUNNING if getattr(node, "_saved_training", False) else ()
    for name, tensor in untracked(node):
        status = None if name in written else status_of(tensor)
        if status is not None and status.holds(value):
            return name
    return None


def untracked(node: Node) -> Iterator[tuple[str, Tensor]]:
    """Yield the arguments that the node saved and that autograd does not track."""
    operation = operation_of(node)
    if is_opaque(node) or not operation.edges:
        for name, tensor in saved_tensors(node):
            if not tensor.requires_grad and not name.startswith("result"):
                yield name, tensor.detach()
        return
    names = [n for e, n in enumerate(operation.edges) if _is_free(node, e)]
    for name in (*names, *operation.data):
        tensor = saved(node, name)
        if isinstance(tensor, Tensor) and not name.startswith("result"):
            yield name, tensor.detach()


def _is_free(node: Node, edge: int) -> bool:
    return edge >= len(node.next_functions) or node.next_functions[edge][0] is None


def has_unsaved_operand(node: Node) -> bool:
    """Return whether an argument left no trace: autograd neither tracks nor saved it."""
    names = {name for name, _ in untracked(node)}
    operation = operation_of(node)
    if operation.adds and len(node.next_functions) == 1:
        return True  # a number
    return any(
        parent is None and operation.edge_name(edge) not in names
        for edge, (parent, _) in enumerate(node.next_functions)
    )


def _maker(values: Values, trail: _Trail) -> Suspect:
    """Return who made the value, all that the node takes in and is known being finite."""
    node, value = trail.node, trail.value
    operation = operation_of(node)
    if is_opaque(node):
        return Suspect(node, trail.output, value, "opaque")
    hidden = operation.masks or (operation.makes in ("", "inf") and has_unsaved_operand(node))
    if not hidden or (value == "inf" and not operation.masks and _near_overflow(values, node)):
        return Suspect(node, trail.output, value, "made")
    if trail.blamed is not None and (operation.masks or _is_added_mask(values, trail)):
        blamed, output, result = trail.blamed
        return Suspect(blamed, output, result, "made")
    return Suspect(node, trail.output, value, "operand", _hidden_name(node))


def _hidden_name(node: Node) -> str:
    operation = operation_of(node)
    for edge, (parent, _) in enumerate(node.next_functions):
        if parent is None:
            return operation.edge_name(edge)
    return "value" if operation.masks else "other"


def _is_added_mask(values: Values, trail: _Trail) -> bool:
    """Return whether nothing but -inf was added, before an operation that takes masks."""
    if trail.blamed is None or not operation_of(trail.blamed[0]).takes_masks:
        return False
    result = values.value(trail.node, trail.output)
    return result is None or not bool((torch.isnan(result) | torch.isposinf(result)).any())


def _near_overflow(values: Values, node: Node) -> bool:
    """Return whether the node's tracked arguments alone come near the dtype's largest value."""
    bound, dtype = 0.0, None
    for parent, output in node.next_functions:
        value = None if parent is None else values.value(parent, output)
        if value is not None and (value.is_floating_point() or value.is_complex()):
            bound, dtype = bound + largest(value) * _terms(node, value), value.dtype
    return dtype is not None and bound > torch.finfo(dtype).max / 4


def _terms(node: Node, value: Tensor) -> int:
    return value.numel() if operation_of(node).accumulates else 1


def _beyond_unknown(values: Values, trail: _Trail, edges: list[int]) -> Iterator[Suspect | _Trail]:
    """Yield what lies beyond arguments whose value is not known: a bad one, or a suspect."""
    region: set[Node] = set()
    queue = [trail.node.next_functions[edge] for edge in edges]
    found: set[tuple[Node, int]] = set()
    while queue:
        parent, output = queue.pop()
        if parent is None or parent in region:
            continue
        status = values.status(parent, output)
        if status is None:
            region.add(parent)
            queue.extend(parent.next_functions)
        elif not status.finite and (parent, output) not in found:
            found.add((parent, output))
            value = "nan" if status.nan else "inf"
            masked = (trail.node, trail.output, trail.value) if value == "inf" else None
            yield _Trail(parent, output, value, trail.blamed or masked)
    if not found:
        yield _within_unknown(values, trail, sorted(region, key=forward_number))


def _within_unknown(values: Values, trail: _Trail, region: list[Node]) -> Suspect:
    """Return who, of a node and the unknown ones before it, most likely made the value."""
    node, output, value = trail.node, trail.output, trail.value
    for each in region:
        operand = _bad_operand(each, "nan") or _bad_operand(each, "inf")
        if operand is not None:
            return Suspect(each, 0, value, "operand", operand)
    opaque = [each for each in region if is_opaque(each) or not operation_of(each).edges]
    if opaque:
        return Suspect(opaque[0], 0, value, "opaque")
    masks = [each for each in region if operation_of(each).masks]
    operation = operation_of(node)
    is_sum = operation.reduction is not None
    if value in operation.makes and (not is_sum or _near_overflow(values, node)):
        return Suspect(node, output, value, "made", unseen=True)
    hidden = [each for each in region if has_unsaved_operand(each) and each not in masks]
    is_mask = masks or (trail.blamed and operation_of(trail.blamed[0]).takes_masks)
    if value == "inf" and trail.blamed is not None and is_mask:
        return Suspect(*trail.blamed, "made", unseen=True)
    if hidden or masks:
        first = (hidden or masks)[0]
        return Suspect(first, 0, value, "operand", _hidden_name(first), unseen=True)
    return Suspect(node, output, value, "made", unseen=True)
