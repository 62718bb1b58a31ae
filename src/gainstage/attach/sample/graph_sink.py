"""Where what is read of graphs goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gainstage.blackbox.write import FaultTensors
from gainstage.facts.blocks import ProfileBlock, TimeBlock
from gainstage.facts.fault import Fault
from gainstage.facts.observation import Observation, Observed
from gainstage.graph.sites.site_map import SiteMap


class GraphSink(Protocol):
    """Where what was read goes."""

    def on_sites(self, sites: SiteMap) -> None:
        """Take the sites anew: a graph of another shape was seen."""
        ...

    def on_profile(self, profile: Callable[[], tuple[ProfileBlock, TimeBlock]]) -> None:
        """Take the levels of a sampled backward call; what computes them may wait for a device."""
        ...

    def on_fault(self, fault: Fault, tensors: FaultTensors | None) -> None:
        """Take the first wrong operation of a step that is about to be taken."""
        ...

    def on_observation(self, observation: Observation[Observed]) -> None:
        """Take something that the script was seen to do."""
        ...
