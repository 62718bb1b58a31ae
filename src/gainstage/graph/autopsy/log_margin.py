"""How close the smallest argument of a logarithm is to 0, in bits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gainstage.graph.nodes.saved import saved
from gainstage.graph.nodes.walk import is_leaf
from gainstage.graph.operations.operation import OperationKind
from gainstage.graph.operations.table import operation_of, source_of


@dataclass(frozen=True, slots=True)
class LogMargin:
    """The smallest argument of one logarithm."""

    place: int
    """Of the node in the forward order of the graph."""
    bits: float
    """log2 of its reciprocal."""
    limit_bits: float
    """The same of the smallest value above 0 that the argument can have."""


def log_margins(nodes: Sequence[Any]) -> Iterator[LogMargin]:
    """Yield the margin of each logarithm on the CPU whose argument nothing keeps from 0.

    `1 - p` has no value between 0 and half a machine epsilon: 2^-24 in float32. Other arguments may
    become as small as the dtype's smallest number, 2^-149.
    """
    for place, node in enumerate(nodes):
        if operation_of(node).pole != 0.0 or not node.next_functions:
            continue
        argument = saved(node, "self")
        makers = _makers(node)
        if not isinstance(argument, Tensor) or any(map(_is_guard, makers)):
            continue
        if not (argument.is_cpu and argument.is_floating_point() and argument.numel()):
            continue
        smallest = float(argument.detach().min())
        if 0.0 < smallest <= 1.0:
            info = torch.finfo(argument.dtype)
            least = (
                info.eps / 2
                if any(kind.adds == "complement" for kind in makers)
                else info.smallest_normal * info.eps
            )
            yield LogMargin(place, -math.log2(smallest), -math.log2(least))


def _makers(log: Any) -> list[OperationKind]:
    """Return what has made the argument; of `1 - p` what has made p, too."""
    made: list[OperationKind] = []
    source = source_of(log.next_functions[0][0])
    while source is not None and not is_leaf(source):
        made.append(operation_of(source))
        if made[-1].adds != "complement":
            break
        source = source_of(source.next_functions[0][0])
    return made


def _is_guard(kind: OperationKind) -> bool:
    """Tell whether it keeps an argument from 0, such as `p + eps`."""
    return kind.adds == "sum" or kind.bounds_below
