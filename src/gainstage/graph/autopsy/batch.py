"""Which dimension of a tensor counts the samples of the batch, as far as the graph tells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from gainstage.graph.autopsy.blame import untracked
from gainstage.graph.nodes.saved import output_shape, saved
from gainstage.graph.nodes.walk import Consumers, Node
from gainstage.graph.operations.table import op_of, operation_of

MOST_SAMPLES = 16
"""When more samples than this offend, it is not the samples."""

NO_DATA = {"mask", "condition", "weight", "pos_weight", "running_mean", "running_var"}
"""Saved arguments without gradient that do not come from the batch."""

HOPS = 8
"""How far along views and elementwise nodes a flattened shape is followed back."""

Shape = tuple[int, ...]
Entrance = tuple[Node, Shape]


@dataclass(frozen=True, slots=True)
class Batch:
    """What the untracked tensors that enter the graph tell of the batch."""

    size: int | None
    """Samples in the batch; None when unsure."""
    time_size: int | None = None
    """Time steps of the input, where it has them."""
    time_first: bool = False


def batch_of(nodes: Iterable[Node]) -> dict[str, Tensor]:
    """Return the untracked tensors that enter the graph, by operation and argument.

    These are inputs and targets, where the operation that took them saved them: what is only added
    or subtracted leaves no trace. Nothing is copied. Names are such as `addmm.mat1`,
    `nll_loss.target`; from the second on `mul.other#2`.
    """
    found: dict[str, Tensor] = {}
    seen: set[tuple[int, Shape]] = set()
    for node in nodes:
        for argument, tensor in untracked(node):
            is_dense = tensor.layout is torch.strided
            key = (tensor.data_ptr() if is_dense else id(tensor), tuple(tensor.shape))
            if tensor.dim() == 0 or argument in NO_DATA or key in seen:
                continue
            seen.add(key)
            name = plain = f"{op_of(node)}.{argument}"
            count = 1
            while name in found:
                count += 1
                name = f"{plain}#{count}"
            found[name] = tensor
    return found


def batch_in(entering: Iterable[Entrance], consumers: Consumers) -> Batch:
    """Return the size of the batch and the layout of time, from the shapes of what enters.

    Args:
        entering: As `entering` returns it.
        consumers: As `consumers_of` returns it: who unflattens leading dimensions again.
    """
    shapes = _unflattened(entering, consumers)
    flat = {s[0] * s[1] for s in shapes if len(s) > 1 and s[1] > 1}
    whole = [s for s in shapes if s[0] not in flat]
    leads = {s[0] for s in whole}
    if len(leads) == 1:
        return Batch(leads.pop(), _time_size(whole, 1))
    # Time first: (T, B, features) beside targets of (B,).
    shared = set.intersection(*(set(s[:2]) for s in whole)) if whole else set[int]()
    if len(shared) != 1:
        return Batch(None)
    size = shared.pop()
    first = {s[0] for s in whole if s[0] != size}
    if len(first) == 1 and all(len(s) > 2 and s[1] == size for s in whole if s[0] != size):
        return Batch(size, first.pop(), time_first=True)
    return Batch(None)


def entering(nodes: Iterable[Node]) -> list[Entrance]:
    """Return where the batch enters, and in which shapes.

    Untracked arguments of layers and losses are data; only where there are none are those of
    arithmetic taken for data, which may as well be noise or constants; where there are none of
    these either, the rows that are looked up in a table.
    """
    surely: list[Entrance] = []
    perhaps: list[Entrance] = []
    looked_up: list[Entrance] = []
    for node in nodes:
        looked_up += [(node, tuple(each.shape)) for each in _indices(node) if each.shape[0] != 1]
        found = surely if operation_of(node).takes_data else perhaps
        for argument, tensor in untracked(node):
            if tensor.dim() and argument not in NO_DATA and tensor.shape[0] != 1:
                found.append((node, tuple(tensor.shape)))
    return surely or perhaps or looked_up


def looks_up(node: Node, size: int | None) -> bool:
    """Tell whether a node takes one row a sample of a table, such as `weight[index]`."""
    return size is not None and any(each.shape[0] == size for each in _indices(node))


def _indices(node: Node) -> list[Tensor]:
    """Return the numbers of the rows that `weight[index]` takes, empty for other operations."""
    if "indices" not in operation_of(node).settings:
        return []
    indices = saved(node, "indices")
    listed = indices if isinstance(indices, (tuple, list)) else ()
    return [e for e in listed if isinstance(e, Tensor) and e.dim() and e.dtype is not torch.bool]


def _unflattened(entrances: Iterable[Entrance], consumers: Consumers) -> list[Shape]:
    shapes: list[Shape] = []
    for node, shape in entrances:
        whole = shape
        for consumer, _, _ in consumers.get(node, ()):
            result = output_shape(consumer)
            is_view = operation_of(consumer).reshapes
            if result is not None and is_view and _unflattens(result, shape[0]):
                whole = (*result[:2], *shape[1:])
        shapes.append(whole)
    return list(dict.fromkeys(shapes))


def _unflattens(result: Shape, rows: int) -> bool:
    return len(result) > 2 and result[0] * result[1] == rows


def _time_size(shapes: list[Shape], dim: int) -> int | None:
    sizes = {s[dim] for s in shapes if len(s) == 3}
    return sizes.pop() if len(sizes) == 1 else None


def samples_of(
    where: Tensor, batch: Batch, node: Node
) -> tuple[tuple[int, ...] | None, int | None]:
    """Return which samples of the batch offend, and at which time step if at a single one.

    Args:
        where: A mask of offending elements, of the node's result or of one of its arguments.
        batch: What is known of the batch.
        node: Whose shapes and neighbours tell how leading dimensions were flattened.

    Returns:
        None in either place when unsure, or when more than 16 samples offend.
    """
    size = batch.size
    is_matrix = operation_of(node).is_matrix_function and where.dim() < 3
    if size is None or is_matrix or where.dim() == 0 or not bool(where.any()):
        return None, None
    rows = where.shape[0]
    indices = where.nonzero()
    if batch.time_first and where.dim() > 1 and where.shape[:2] == (batch.time_size, size):
        return _few(indices[:, 1]), _single(indices[:, 0])
    if rows == size:
        timed = where.dim() > 1 and where.shape[1] == batch.time_size
        return _few(indices[:, 0]), _single(indices[:, 1]) if timed else None
    layout = _flattened_from(rows, batch, node)
    if layout is None:
        return None, None
    first, second = layout
    outer, inner = indices[:, 0] // second, indices[:, 0] % second
    sample, other = (outer, inner) if first == size and not batch.time_first else (inner, outer)
    timed = batch.time_size in layout and batch.time_size != size
    return _few(sample), _single(other) if timed else None


def _flattened_from(rows: int, batch: Batch, node: Node) -> tuple[int, int] | None:
    """Return the two leading dimensions that were flattened into `rows`; None if unsure."""
    size = batch.size or 1
    if rows % size or rows < size:
        return None
    other = rows // size
    frontier, seen = [node], {node}
    for _ in range(HOPS):
        shapes = [output_shape(each) for each in frontier]
        for shape in shapes:
            if shape is not None and shape[:2] in ((size, other), (other, size)):
                return shape[0], shape[1]
        above = [p for each in frontier for p, _ in each.next_functions if p is not None]
        frontier = [p for p in dict.fromkeys(above) if p not in seen]
        seen.update(frontier)
    if batch.time_size == other and other != size:
        return (other, size) if batch.time_first else (size, other)
    return None


def _few(indices: Tensor) -> tuple[int, ...] | None:
    unique = indices.unique().tolist()
    return tuple(unique) if len(unique) <= MOST_SAMPLES else None


def _single(indices: Tensor) -> int | None:
    unique = indices.unique().tolist()
    return unique[0] if len(unique) == 1 else None
