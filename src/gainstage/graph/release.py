"""Letting go of a deep graph without a crash.

torch (2.13) frees a graph iteratively, unless Python has seen its nodes: then each keeps a Python
object, and the destruction of a chain of some 50,000 such nodes recurses until the stack overflows,
whoever drops the last tensor. So nodes of a deep graph that we have looked at are kept until nobody
else owns them, and let go one by one, the latest first.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

DEEP = 4096
"""Graphs of fewer nodes are freed safely on any thread's stack."""

OURS = 2
"""References to a node that only our list holds: the list's, and that of the call that counts."""

_kept: list[list[Any]] = []


def keep(nodes: Iterable[Any]) -> None:
    """Keep the nodes of a deep graph, in forward order, until nobody else owns them."""
    kept = list(nodes)
    if len(kept) > DEEP:
        _kept.append(kept)


def sweep() -> int:
    """Let go of kept nodes that nobody else owns any more; return how many are still kept.

    Called by every walk. Call it after an optimizer's step as well: nodes need not outlive it.
    """
    for nodes in _kept:
        while nodes and sys.getrefcount(nodes[-1]) == OURS:
            nodes.pop()
    _kept[:] = [nodes for nodes in _kept if nodes]
    return sum(len(nodes) for nodes in _kept)
