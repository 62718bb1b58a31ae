"""Whether a value is a dispersion: a standard deviation or a norm, also one written by hand."""

from __future__ import annotations

from gainstage.facts.fault import Dispersion
from gainstage.graph.nodes.walk import Node, is_leaf
from gainstage.graph.operations.table import operation_of, source_of

_ROOTS = ("any", "root", "inverse-root")
_INVERSES = ("inverse", "inverse-root")
"""Powers that undo a square written by hand; that divide."""


def divisor_of(node: Node) -> Dispersion | None:
    """Return by what a division, or a root of a reciprocal, divides; None where by nothing such.

    `x / x.std()` and `x / ((x - x.mean()) ** 2).mean().sqrt()` divide by a deviation, and
    `torch.rsqrt(x.var() + eps)` too; `x / x.norm()` by a norm.
    """
    kind, parents = operation_of(node), [parent for parent, _ in node.next_functions]
    if kind.scales == "quotient":
        return _dispersion_of(parents[1]) if len(parents) > 1 else None
    return _dispersion_of(parents[0]) if kind.power in _INVERSES and parents else None


def _dispersion_of(node: Node) -> Dispersion | None:
    source = _before_guard(node)
    if source is None:
        return None
    if operation_of(source).dispersion is not None:
        return operation_of(source).dispersion
    if operation_of(source).power in _ROOTS:
        source = _before_guard(source.next_functions[0][0])
    if source is None:
        return None
    if operation_of(source).reduction is None:
        return operation_of(source).dispersion
    square = source_of(source.next_functions[0][0])
    if square is None or is_leaf(square):
        return None
    kind = operation_of(square)
    return "deviation" if kind.power == "any" or kind.scales == "product" else None


def _before_guard(node: Node) -> Node:
    """Return what made a value, back through views and the eps or lower bound that guards it."""
    source = source_of(node)
    while source is not None and not is_leaf(source) and _is_guard(source):
        source = source_of(source.next_functions[0][0])
    return None if source is None or is_leaf(source) else source


def _is_guard(node: Node) -> bool:
    kind = operation_of(node)
    return bool(kind.adds) or kind.bounds_below
