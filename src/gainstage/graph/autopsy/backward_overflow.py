"""Where a gradient stopped being finite on its way back, as the levels of a sampled step tell.

That takes no infinite derivative: a product of finite numbers is enough.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from gainstage.facts.fault import FaultEvidence
from gainstage.graph.autopsy.find import Culprit
from gainstage.graph.autopsy.path import loss_side, path_up
from gainstage.graph.levels.measure import magnitude_bits
from gainstage.graph.levels.profile import NodeReading
from gainstage.graph.nodes.finite import dtype_name, largest_finite, status_of
from gainstage.graph.nodes.walk import Node, consumers_of, is_leaf, leaves_above
from gainstage.graph.operations.table import class_name_of, op_of


@dataclass(frozen=True, slots=True)
class SampledGradients:
    """The gradients that came to the nodes of one sampled backward call."""

    nodes: Sequence[Node]
    """Without leaves, in forward order."""
    readings: Sequence[NodeReading]


@dataclass(frozen=True, slots=True)
class _Turn:
    """Where a finite gradient went in, and one that is not came out."""

    node: Node
    bits: float
    """log2 of the largest magnitude that went in."""
    dtype: torch.dtype
    is_nan: bool


def find_backward_overflow(read: SampledGradients, bad: Mapping[int, float]) -> Culprit | None:
    """Return the node that took in a finite gradient and gave out one that is not.

    Of several the one nearest to the loss. Waits for the device.

    Args:
        read: What was read, of a call whose step had no call that was not read.
        bad: By `id` of each leaf tensor whose gradient is not finite, its norm before clipping.

    Returns:
        None where not every node in question was read.
    """
    bits = {
        read.nodes[each.place]: magnitude_bits([float(levels.largest) for levels in each.deltas])
        for each in read.readings
        if each.deltas
    }
    turn = _within(read, bits) if math.inf in bits.values() else _at_leaf(read, bits, bad)
    if turn is None:
        return None
    node = turn.node
    evidence = FaultEvidence(
        reason="gradient-nan" if turn.is_nan else "gradient-overflow",
        value="nan" if turn.is_nan else "inf",
        dtype=dtype_name(turn.dtype),
        largest_finite=largest_finite(turn.dtype),
        largest_gradient_bits=turn.bits,
        nonfinite_gradients=len(bad),
    )
    leaves = {leaf for leaf in leaves_above(node) if id(leaf.variable) in bad}
    return Culprit(
        node=node,
        op=op_of(node),
        kind="unknown" if turn.is_nan else "overflow",
        evidence=evidence,
        is_backward=True,
        chain=path_up(node, leaves),
        after_last_parameter=loss_side(node, consumers_of(read.nodes)),
        settings={"kind": class_name_of(node)},
    )


def _within(read: SampledGradients, bits: dict[Node, float]) -> _Turn | None:
    """Return who gave the first bad gradient to another node.

    A gradient to which several nodes add is laid to the one that took in the largest.
    """
    first = next(node for node in reversed(read.nodes) if bits.get(node) == math.inf)
    givers = [node for node, _, _ in consumers_of(read.nodes).get(first, ())]
    if not givers or any(giver not in bits for giver in givers):
        return None
    giver = max(givers, key=lambda node: bits[node])
    deltas = next(each.deltas for each in read.readings if read.nodes[each.place] is first)
    is_nan = any(math.isnan(float(levels.largest)) for levels in deltas)
    return _Turn(giver, bits[giver], deltas[0].dtype, is_nan)


def _at_leaf(
    read: SampledGradients, bits: dict[Node, float], bad: Mapping[int, float]
) -> _Turn | None:
    """Return who gave a bad gradient to a leaf, all nodes having had finite ones."""
    if len(bits) < len(read.nodes):
        return None
    givers = [
        (node, parent.variable)
        for node in read.nodes
        for parent, _ in node.next_functions
        if parent is not None and is_leaf(parent) and id(parent.variable) in bad
    ]
    if not givers:
        return None
    giver, leaf = max(givers, key=lambda each: bits[each[0]])
    status = None if leaf.grad is None else status_of(leaf.grad)
    if status is None or status.finite:
        return None  # on an accelerator a step is judged when the next ones have begun
    return _Turn(giver, bits[giver], leaf.dtype, math.isnan(bad[id(leaf)]))
