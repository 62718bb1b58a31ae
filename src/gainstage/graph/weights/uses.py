"""How the graph uses each weight: what it multiplies, over how many inputs, and what follows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gainstage.graph.nodes.readers import Graph, leaf_of, parents_of
from gainstage.graph.nodes.saved import saved
from gainstage.graph.operations.table import operation_of, source_of
from gainstage.graph.weights.activations import Activation, activation_after


@dataclass(frozen=True, slots=True)
class WeightUse:
    """A leaf that is one factor of a product, as the forward pass used it first."""

    parameter: Tensor
    node: Any
    """Of its first product."""
    fan_in: int
    """Inputs that one output sums over."""
    fan_out: int
    """Outputs that one input goes into."""
    is_convolution: bool
    inputs_first: bool
    """Whether a matrix is laid out (in, out), as in `x @ weight`, and not (out, in)."""
    activation: Activation
    is_recurrent: bool
    """Whether a product's other factor depends on an earlier product with the same weight."""
    biases: tuple[Tensor, ...]
    """Leaves that are added to the product."""


def weight_uses(graph: Graph) -> list[WeightUse]:
    """Return the weights of a graph in forward order, each once.

    A leaf counts if it is a factor of a matrix product or convolution directly, or through what
    only moves or casts it. Embeddings, and weights that multiply entry by entry, do not.
    """
    products: dict[int, list[tuple[Any, int, Tensor]]] = {}
    for node in graph.nodes:
        if operation_of(node).factors:
            for operand, leaf in _leaf_factors(node):
                products.setdefault(id(leaf), []).append((node, operand, leaf))
    uses: list[WeightUse] = []
    for all_of in products.values():
        node, operand, leaf = all_of[0]
        fans = _fans(node, operand, leaf)
        if fans is None:
            continue
        fan_in, fan_out = fans
        uses.append(
            WeightUse(
                leaf,
                node,
                fan_in,
                fan_out,
                _is_convolution(node),
                _is_inputs_first(node, operand, leaf, fan_in),
                activation_after(graph, node),
                _is_recurrent([each[0] for each in all_of], operand),
                tuple(_biases(graph, node)),
            )
        )
    return uses


def _leaf_factors(node: Any) -> Iterator[tuple[int, Tensor]]:
    parents = [parent for parent, _ in node.next_functions]
    for operand in _factor_edges(node):
        leaf = leaf_of(source_of(parents[operand])) if operand < len(parents) else None
        if leaf is not None:
            yield operand, leaf


def _factor_edges(node: Any) -> list[int]:
    """Return the edges of a product by which a weight may come in."""
    kind = operation_of(node)
    return [kind.edges.index(factor) for factor in kind.factors]


def _is_convolution(node: Any) -> bool:
    return operation_of(node).convolves


def _fans(node: Any, operand: int, leaf: Tensor) -> tuple[int, int] | None:
    """Return fan in and fan out; None where the graph does not tell them."""
    shape, count = tuple(leaf.shape), leaf.numel()
    if _is_convolution(node):
        field = count // max(1, shape[0] * shape[1])
        first, second = shape[0] // node._saved_groups, shape[1]
        if not node._saved_transposed:
            return second * field, first * field
        strides = 1
        for stride in node._saved_stride:
            strides *= stride
        return max(1, first * field // strides), second * field
    factors = operation_of(node).factors
    names = [f"_saved_{factor}_sym_sizes" for factor in factors]
    if len(names) == 2 and all(hasattr(node, name) for name in names):
        (rows, inner), (_, columns) = (getattr(node, name) for name in names)
        return int(inner), int(rows if operand == _factor_edges(node)[0] else columns)
    if len(shape) == 1:
        return count, 1
    other = _other_factor(node, operand)
    if other is not None and other.dim() > 2:
        is_left = operand == _factor_edges(node)[0]
        inner = int(other.shape[-2] if is_left else other.shape[-1])
    else:
        inner = shape[-2] if _has_inputs_first(node, operand) else shape[-1]
    if inner not in shape[-2:]:
        return inner, max(1, count // inner)  # an einsum has merged its axes
    return inner, shape[-1] if shape[-2] == inner else shape[-2]


def _other_factor(node: Any, operand: int) -> Tensor | None:
    """Return the factor that a leaf is multiplied by, where the product saved it."""
    kind = operation_of(node)
    others = [name for name in kind.factors if kind.edges.index(name) != operand]
    other = saved(node, others[0]) if others else None
    return other if isinstance(other, Tensor) else None


def _is_inputs_first(node: Any, operand: int, leaf: Tensor, fan_in: int) -> bool:
    if leaf.dim() < 2 or _is_convolution(node):
        return False
    if leaf.shape[-2] != leaf.shape[-1]:
        return leaf.shape[-2] == fan_in
    return _has_inputs_first(node, operand)


def _has_inputs_first(node: Any, operand: int) -> bool:
    """Tell the layout by how often the leaf was transposed: the right factor is (in, out)."""
    turned = 0
    on_way = node.next_functions[operand][0]
    while on_way is not None and leaf_of(on_way) is None:
        turned += operation_of(on_way).transposes
        on_way = on_way.next_functions[0][0] if on_way.next_functions else None
    is_right = operand == _factor_edges(node)[-1]
    return is_right == (turned % 2 == 0)


def _is_recurrent(products: list[Any], operand: int) -> bool:
    """Tell whether the second product's other factor comes out of the first one."""
    if len(products) < 2:
        return False
    first, second = products[0], products[1]
    oldest = first._sequence_nr()
    stack = [
        parent
        for position, (parent, _) in enumerate(second.next_functions)
        if parent is not None and position != operand
    ]
    seen: set[Any] = set(stack)
    while stack:
        node = stack.pop()
        if node is first:
            return True
        for parent in parents_of(node):
            if parent not in seen and leaf_of(parent) is None and parent._sequence_nr() >= oldest:
                seen.add(parent)
                stack.append(parent)
    return False


def _biases(graph: Graph, node: Any) -> Iterator[Tensor]:
    """Yield the vectors added to a product, within its node or right after it."""
    kind = operation_of(node)
    edge = None if kind.bias is None else kind.edges.index(kind.bias)
    has_own = edge is not None and edge < len(node.next_functions)
    own = node.next_functions[edge][0] if has_own else None
    leaf = None if own is None else leaf_of(source_of(own))
    if leaf is not None and leaf.dim() <= 1:
        yield leaf
    reached = [node]
    while reached:
        for reader, _ in graph.readers_of(reached.pop()):
            if operation_of(reader).adds == "sum":
                for parent in parents_of(reader):
                    leaf = leaf_of(source_of(parent))
                    if leaf is not None and leaf.dim() <= 1:
                        yield leaf
            elif operation_of(reader).reshapes:
                reached.append(reader)


def residual_ends(graph: Graph, uses: list[WeightUse]) -> tuple[dict[int, WeightUse], int]:
    """Return the last weight of every residual branch, by the id of its tensor, and how many sums.

    A sum is residual where one operand was made from the other: the branch and the stream that it
    is added to. A stream that begins with data, which no gradient reaches, is not seen.
    """
    by_node = {use.node: use for use in uses}
    ends: dict[int, WeightUse] = {}
    sums = 0
    for node in graph.nodes:
        if operation_of(node).adds != "sum":
            continue
        operands = [source_of(parent) for parent, _ in node.next_functions]
        if len(operands) != 2 or any(o is None or leaf_of(o) is not None for o in operands):
            continue
        stream, branch = sorted(operands, key=lambda operand: operand._sequence_nr())
        end = _last_weight(branch, stream, by_node)
        if end is not None and not end.is_recurrent:
            sums += 1
            ends[id(end.parameter)] = end
    return ends, sums


def _last_weight(branch: Any, stream: Any, by_node: dict[Any, WeightUse]) -> WeightUse | None:
    """Return the weight nearest to a branch's end, None where it does not begin at the stream."""
    oldest = stream._sequence_nr()
    stack, seen = [branch], {branch}
    end: WeightUse | None = None
    comes_from_stream = False
    while stack:
        node = stack.pop()
        if node is stream:
            comes_from_stream = True
            continue
        use = by_node.get(node)
        if use is not None and (end is None or node._sequence_nr() > end.node._sequence_nr()):
            end = use
        for parent in parents_of(node):
            if parent not in seen and leaf_of(parent) is None and parent._sequence_nr() >= oldest:
                seen.add(parent)
                stack.append(parent)
    return end if comes_from_stream else None
