"""Letting go of a deep graph without a crash.

torch (2.13) frees a graph iteratively, unless Python has seen its nodes: then each keeps a Python
object, and the destruction of a chain of some 50,000 such nodes recurses until the stack overflows,
whoever drops the last tensor. So nodes of a deep graph that we have looked at are kept until nobody
else owns them, and let go one by one, the latest first.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Any

DEEP = 4096
"""Graphs of fewer nodes are freed safely on any thread's stack."""

OURS = 2
"""References to a node that only we hold: the variable's, and that of the call that counts."""

KEPT: dict[Any, None] = {}
"""The nodes that are kept, each once, however often its graph was walked: two references would look
like two owners."""


def keep(nodes: Collection[Any]) -> None:
    """Keep the nodes of a deep graph, in forward order, until nobody else owns them."""
    if len(nodes) > DEEP:
        KEPT.update(dict.fromkeys(nodes))


def sweep() -> int:
    """Let go of kept nodes that nobody else owns any more; return how many are still kept.

    Called by every walk. Call it after an optimizer's step as well: nodes need not outlive it.
    """
    while KEPT:
        node, _ = KEPT.popitem()
        if sys.getrefcount(node) > OURS:
            KEPT[node] = None
            break
    return len(KEPT)
