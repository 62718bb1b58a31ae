"""Levels of one backward call's graph: what every node put out, and what gradient came back to it.

A sampled step reads each tensor once, where it lies; nothing is copied, and nothing waits for an
accelerator: the numbers are tensors of one element until they are fetched.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gainstage.graph.levels.fused_nodes import Unsupported
from gainstage.graph.levels.fused_rnn import DirectionLevels, fused_levels
from gainstage.graph.levels.measure import TensorLevels, levels_of
from gainstage.graph.levels.profile import NodeReading
from gainstage.graph.operations.table import operation_of

_MOST_NODES = 4096
"""Of a larger graph, every second, third ... node is read, and every layer."""


def places_read(nodes: int, layers: Collection[int]) -> list[int]:
    """Return the places that are read of a graph of so many nodes."""
    stride = max(math.ceil(nodes / _MOST_NODES), 1)
    return sorted({*range(0, nodes, stride), *layers})


class Probe:
    """Reads the levels of one graph: what was put out now, what comes back while backward runs."""

    def __init__(
        self, nodes: Sequence[Any], layers: Collection[int], outputs: Mapping[int, Tensor]
    ) -> None:
        """Read what the nodes have put out, and listen for the gradients.

        Call it right before backward, and `finish` after it.

        Args:
            nodes: All of the graph in forward order, without leaves.
            layers: Places of nodes that are read however many there are.
            outputs: By place, what a node put out, where something saved it.
        """
        began = time.perf_counter()
        self.cost_s = 0.0
        self._outputs: dict[int, TensorLevels | None] = {}
        self._deltas: dict[int, list[TensorLevels]] = {}
        self.fused: dict[int, Sequence[DirectionLevels]] = {}
        """By place, levels through time of a fused recurrent node, once backward is done."""
        self._handles: list[Any] = []
        with torch.no_grad():
            for place in places_read(len(nodes), layers):
                output = outputs.get(place)
                self._outputs[place] = None if output is None else levels_of(output)
                listener = self._listener(self._deltas.setdefault(place, []))
                self._handles.append(nodes[place].register_prehook(listener))
                if operation_of(nodes[place]).fused_recurrent:
                    through_time = self._fused_listener(place, nodes[place])
                    self._handles.append(nodes[place].register_prehook(through_time))
        self.cost_s += time.perf_counter() - began

    def finish(self) -> list[NodeReading]:
        """Stop listening, and return what was read."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        return [
            NodeReading(place, output, self._deltas[place])
            for place, output in self._outputs.items()
        ]

    def _fused_listener(self, place: int, node: Any) -> Callable[[tuple[Tensor | None, ...]], None]:
        def listen(grads: tuple[Tensor | None, ...]) -> None:
            began = time.perf_counter()
            levels = fused_levels(node, grads)
            if not isinstance(levels, Unsupported):
                self.fused[place] = levels
            self.cost_s += time.perf_counter() - began

        return listen

    def _listener(self, read: list[TensorLevels]) -> Callable[[tuple[Tensor | None, ...]], None]:
        def listen(grads: tuple[Tensor | None, ...]) -> None:
            began = time.perf_counter()
            with torch.no_grad():
                found = [levels_of(grad) for grad in grads if grad is not None]
            read[:] = [levels for levels in found if levels is not None]
            self.cost_s += time.perf_counter() - began

        return listen
