"""The sites of a run, and which of them each node of a later graph belongs to.

Graphs of one shape have the same nodes in the same order, so a node's place in that order tells its
site. A graph of another shape is aligned with the nearest one known by the names of its nodes, and
what does not fit is said to be unmatched, never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from gainstage.facts.fault import Site

UNMATCHED = -1
_MOST_ALIGNED = 4000
"""Nodes up to which another shape is aligned by content; beyond, only its equal ends are."""
_MOST_GRAPHS = 64


@dataclass(frozen=True, slots=True)
class Match:
    """The sites of a graph's nodes."""

    graph: int
    """Number of the known graph that it was matched with, -1 for none."""
    sites: list[int]
    """By node in forward order, an index into `SiteMap.sites`; `UNMATCHED` where there is none."""
    exact: bool
    """Whether the graph has the very shape of the known one."""


class SiteMap:
    """All sites seen, and the shapes of the graphs they were seen in."""

    def __init__(self) -> None:
        self.sites: list[Site] = []
        self._index: dict[Site, int] = {}
        self._graphs: list[tuple[tuple[str, ...], list[int]]] = []
        self._by_shape: dict[tuple[str, ...], int] = {}

    def __len__(self) -> int:
        return len(self._graphs)

    def add(self, nodes: Sequence[Any], sites: Sequence[Site | None]) -> Match:
        """Take in the graph of a recorded forward pass; the match of its own nodes is exact."""
        shape = shape_of(nodes)
        numbers = [UNMATCHED if site is None else self._number(site) for site in sites]
        graph = self._by_shape.get(shape, len(self._graphs))
        if graph < len(self._graphs):
            self._graphs[graph] = (shape, numbers)
        elif graph < _MOST_GRAPHS:
            self._graphs.append((shape, numbers))
            self._by_shape[shape] = graph
        return Match(graph, numbers, exact=True)

    def match(self, nodes: Sequence[Any]) -> Match:
        """Return the sites of a graph's nodes, given in forward order."""
        shape = shape_of(nodes)
        graph = self._by_shape.get(shape)
        if graph is not None:
            return Match(graph, self._graphs[graph][1], exact=True)
        if not self._graphs:
            return Match(-1, [UNMATCHED] * len(nodes), exact=False)
        return self._aligned(shape)

    def site(self, number: int) -> Site | None:
        """Return a site by its number, None for `UNMATCHED`."""
        return None if number == UNMATCHED else self.sites[number]

    def graphs(self) -> list[list[int]]:
        """Return, for each shape of graph, the sites of its nodes in forward order."""
        return [numbers for _, numbers in self._graphs]

    def _number(self, site: Site) -> int:
        number = self._index.setdefault(site, len(self.sites))
        if number == len(self.sites):
            self.sites.append(site)
        return number

    def _aligned(self, shape: tuple[str, ...]) -> Match:
        """Align with the known graph that shares most with this one."""
        best = max(range(len(self._graphs)), key=lambda g: _likeness(self._graphs[g][0], shape))
        known, numbers = self._graphs[best]
        sites = [UNMATCHED] * len(shape)
        head = _common(known, shape)
        tail = min(_common(known[::-1], shape[::-1]), len(known) - head, len(shape) - head)
        sites[:head] = numbers[:head]
        if tail:
            sites[-tail:] = numbers[len(known) - tail :]
        left = known[head : len(known) - tail]
        right = shape[head : len(shape) - tail]
        if max(len(left), len(right)) <= _MOST_ALIGNED:
            for one, other, length in SequenceMatcher(
                None, left, right, autojunk=False
            ).get_matching_blocks():
                first = head + one
                sites[head + other : head + other + length] = numbers[first : first + length]
        return Match(best, sites, exact=False)


def shape_of(nodes: Sequence[Any]) -> tuple[str, ...]:
    """Return the names of a graph's nodes in forward order: what tells graphs apart."""
    return tuple([node.name() for node in nodes])


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many names two shapes begin with alike."""
    for position, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return position
    return min(len(one), len(other))


def _likeness(one: Sequence[str], other: Sequence[str]) -> float:
    alike = _common(one, other) + _common(one[::-1], other[::-1])
    return alike / (1 + abs(len(one) - len(other)) + max(len(one), len(other)))
