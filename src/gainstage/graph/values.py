"""What nodes put out, as far as the graph has saved it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

_RESULTS = ("_saved_result", "_saved_output", "_saved_result0", "_saved_out")


def outputs_of(nodes: Sequence[Any]) -> dict[int, Tensor]:
    """Return, by place, what nodes put out, where something saved it."""
    outputs: dict[int, Tensor] = {}
    for place, node in enumerate(nodes):
        for name in _RESULTS:
            value = getattr(node, name, None)
            if isinstance(value, Tensor):
                outputs[place] = value
                break
    return outputs
