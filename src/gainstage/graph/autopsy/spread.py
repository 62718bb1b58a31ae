"""Whether a value is a spread (a standard deviation, a norm), also where it is written by hand."""

from __future__ import annotations

from gainstage.graph.nodes.readers import source_of
from gainstage.graph.nodes.walk import Node, is_leaf
from gainstage.graph.operations.table import op_of

_SPREADS = {"std", "var", "std_mean", "var_mean", "linalg_vector_norm", "norm"}
_ROOTS = {"sqrt", "pow", "rsqrt"}
_GUARDS = {"add", "clamp", "clamp_min", "maximum", "sub", "rsub"}
_AVERAGES = {"mean", "sum"}
_SQUARES = {"pow", "mul", "square"}


def divides_by_spread(node: Node) -> bool:
    """Tell whether a division, or a root of a reciprocal, takes a spread that may be 0.

    `x / x.std()` and `x / ((x - x.mean()) ** 2).mean().sqrt()` are such, and
    `torch.rsqrt(x.var() + eps)`.
    """
    op, parents = op_of(node), [parent for parent, _ in node.next_functions]
    if op == "div":
        return len(parents) > 1 and _is_spread(parents[1])
    return op in ("rsqrt", "reciprocal") and bool(parents) and _is_spread(parents[0])


def _is_spread(node: Node) -> bool:
    source = _before_guard(node)
    if source is None:
        return False
    if op_of(source) in _SPREADS:
        return True
    if op_of(source) in _ROOTS:
        source = _before_guard(source.next_functions[0][0])
    if source is None or op_of(source) not in _AVERAGES | _SPREADS:
        return False
    if op_of(source) in _SPREADS:
        return True
    square = source_of(source.next_functions[0][0])
    return square is not None and not is_leaf(square) and op_of(square) in _SQUARES


def _before_guard(node: Node) -> Node:
    """Return what made a value, back through views and the eps or lower bound that guards it."""
    source = source_of(node)
    while source is not None and not is_leaf(source) and op_of(source) in _GUARDS:
        source = source_of(source.next_functions[0][0])
    return None if source is None or is_leaf(source) else source
