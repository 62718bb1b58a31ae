"""The culprit where a script's own `torch.autograd.Function` makes a gradient that is not finite.

What such a node does inside no table tells, so what went in and what came out are kept until the
step is judged: of gradients of up to 64 MB in all, those nearest to the loss first.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from gainstage.facts.fault import FaultEvidence, Share
from gainstage.graph.autopsy.batch import batch_in, entering, samples_of
from gainstage.graph.autopsy.find import Culprit
from gainstage.graph.autopsy.path import loss_side, path_up
from gainstage.graph.nodes.finite import is_finite, nonfinite
from gainstage.graph.nodes.walk import Node, consumers_of, leaves_above
from gainstage.graph.operations.table import REGIONS, class_name_of, is_opaque, op_of

_MOST_BYTES: Final = 64 * 2**20


def is_custom(node: Node) -> bool:
    """Tell whether a node is that of an `autograd.Function` written in Python."""
    return is_opaque(node) and node.name() not in REGIONS


class CustomGradients:
    """What went into the custom nodes of one backward call, and what came out."""

    def __init__(
        self, nodes: Iterable[Node], graph: Sequence[Node], entrances: Iterable[Node]
    ) -> None:
        """Listen, from right before backward on.

        Args:
            nodes: Those that are custom.
            graph: All nodes, in forward order.
            entrances: Those at which the batch enters.
        """
        self._graph = graph
        self._entrances = entering(entrances)
        self._seen: list[tuple[Node, Any, Any]] = []
        self.bytes = 0
        self._handles: list[Any] = [
            node.register_hook(functools.partial(self._take, node)) for node in nodes
        ]

    def _take(self, node: Node, made: Any, given: Any) -> None:
        tensors = [each for each in (*made, *given) if isinstance(each, Tensor)]
        size = sum(each.numel() * each.element_size() for each in tensors)
        if self.bytes + size <= _MOST_BYTES:
            self.bytes += size
            self._seen.append((node, made, given))

    def release(self) -> None:
        """Stop listening, and let go."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._seen = []

    def find(self, bad: Mapping[int, float]) -> Culprit | None:
        """Return the node nearest to the loss that made a bad gradient of a finite one.

        Args:
            bad: By `id` of each leaf tensor whose gradient is not finite, its norm.
        """
        with torch.no_grad():
            for node, made, given in self._seen:
                wrong = [each for each in made if _is_bad(each)]
                if wrong and not any(map(_is_bad, given)):
                    return self._culprit(node, wrong[0], bad)
        return None

    def _culprit(self, node: Node, made: Tensor, bad: Mapping[int, float]) -> Culprit:
        where = nonfinite(made)
        evidence = FaultEvidence(
            reason="custom-backward",
            value="nan" if bool(torch.isnan(made).any()) else "inf",
            share=Share(int(where.sum()), where.numel()),
            nonfinite_gradients=len(bad),
        )
        consumers = consumers_of(self._graph)
        samples, time_step = samples_of(where, batch_in(self._entrances, consumers), node)
        return Culprit(
            node=node,
            op=op_of(node),
            kind="singular-derivative",
            evidence=evidence,
            is_backward=True,
            samples=samples,
            time_step=time_step,
            chain=path_up(node, {each for each in leaves_above(node) if id(each.variable) in bad}),
            after_last_parameter=loss_side(node, consumers),
            settings={"kind": class_name_of(node)},
        )


def _is_bad(grad: Any) -> bool:
    return isinstance(grad, Tensor) and not is_finite(grad)
