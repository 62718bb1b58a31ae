"""The places in the script that a run's graphs go through: sites.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from gainstage.facts.fault import Site
from gainstage.facts.ranges import IndexOrNone

SITES_SCHEMA: Final = "gainstage.sites/1"


@dataclass(frozen=True, slots=True)
class GraphShape:
    """A shape of graph that was seen: the sites of its nodes."""

    nodes: tuple[IndexOrNone, ...]
    """Index into `sites` of each node in forward order; -1 for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SitesFile:
    """sites.json: places in the code that make graph nodes."""

    schema: Literal["gainstage.sites/1"] = SITES_SCHEMA
    sites: tuple[Site, ...] = ()
    graphs: tuple[GraphShape, ...] = ()
    """One for each shape of graph that was seen."""

    @property
    def stream_adds(self) -> int:
        """Sums of two tracked values within modules: additions to a residual stream."""
        first = self.sites_of_first
        return sum(bool(site.adds) and site.module is not None for site in first)

    @property
    def loss_site(self) -> Site | None:
        """Where the loss was made, as the graph of the first backward call shows it."""
        first = self.sites_of_first
        return first[-1] if first else None

    @property
    def sites_of_first(self) -> tuple[Site, ...]:
        """The sites of the first graph's nodes in forward order, without nodes that have none."""
        if not self.graphs:
            return ()
        known = range(len(self.sites))
        return tuple(self.sites[number] for number in self.graphs[0].nodes if number in known)
