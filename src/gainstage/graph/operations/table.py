"""The table of all kinds, and the rule for those that are not in it."""

from __future__ import annotations

import re
from functools import cache

from torch.autograd.function import BackwardCFunction

from gainstage.graph.nodes.saved import saved
from gainstage.graph.nodes.walk import Node
from gainstage.graph.operations.activations import ACTIVATIONS
from gainstage.graph.operations.arithmetic import ARITHMETIC
from gainstage.graph.operations.layers import LAYERS
from gainstage.graph.operations.linear_algebra import LINEAR_ALGEBRA
from gainstage.graph.operations.losses import LOSSES
from gainstage.graph.operations.mathematics import MATHEMATICS
from gainstage.graph.operations.operation import ONE_SOURCE, OperationKind
from gainstage.graph.operations.reductions import REDUCTIONS
from gainstage.graph.operations.shapes import SHAPES

OPERATIONS: dict[str, OperationKind] = (
    MATHEMATICS | ACTIVATIONS | ARITHMETIC | REDUCTIONS | SHAPES | LINEAR_ALGEBRA | LAYERS | LOSSES
)
"""By the name of the node's class, such as `LogBackward0`."""

LEAF = OperationKind(op="leaf", edges=(), makes="")
REGIONS = {"CheckpointFunctionBackward": "checkpoint", "CompiledFunctionBackward": "compiled"}
FUSED_RECURRENT_MODES = {0: "rnn_relu", 1: "rnn_tanh", 2: "lstm", 3: "gru"}

_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z0-9])(?=[A-Z][a-z])")


def class_name_of(node: Node) -> str:
    """Return the node's class, such as `LogBackward0`: the key of the table."""
    return type(node).__name__


def operation_of(node: Node) -> OperationKind:
    """Return what is known of the node's kind."""
    kind = type(node)
    if issubclass(kind, BackwardCFunction):
        # Not kept: a class of the script's own would be, with all that its functions know.
        name = kind.__name__
        return OperationKind(op=REGIONS.get(name, name.removesuffix("Backward")), edges=())
    return operation_named(kind.__name__)


def op_of(node: Node) -> str:
    """Return torch's function name for the node, such as `log`."""
    operation = operation_of(node)
    if "mode" in operation.settings:
        return FUSED_RECURRENT_MODES.get(saved(node, "mode"), operation.op)
    return operation.op


def hands_on(node: Node) -> bool:
    """Tell whether a node's output holds values of its first input only: views, casts, copies."""
    moves = operation_of(node).moves
    return moves in ONE_SOURCE or moves == "either"


def source_of(node: Node) -> Node:
    """Return the node whose values a node hands on, back through views, casts and copies."""
    while node is not None and hands_on(node):
        node = node.next_functions[0][0]
    return node


def is_opaque(node: Node) -> bool:
    """Return whether the node hides other operations: a custom function, a compiled region."""
    return isinstance(node, BackwardCFunction)


@cache
def operation_named(name: str) -> OperationKind:
    """Return what is known of nodes of a class, such as `LogBackward0`."""
    if name in OPERATIONS:
        return OPERATIONS[name]
    if name == "AccumulateGrad":
        return LEAF
    return OperationKind(op=function_name(name), edges=())


def function_name(kind: str) -> str:
    """Return torch's function name for a class of nodes, by the rule that names were made with.

    Example:
        >>> function_name("MaxPool2DWithIndicesBackward0")
        'max_pool2d_with_indices'
    """
    stem = re.sub(r"Backwards?\d*(_copy)?$", "", kind)
    return _WORDS.sub("_", stem).lower()
