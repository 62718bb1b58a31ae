"""Reads the levels of one sampled backward call: forward as it begins, backward as it runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from gainstage.graph.autopsy.backward_overflow import SampledGradients
from gainstage.graph.autopsy.values import Values
from gainstage.graph.levels.layers import layers_of
from gainstage.graph.levels.probe import Probe, places_read
from gainstage.graph.levels.profile import Profile
from gainstage.graph.levels.time_block import Structure, structure_of
from gainstage.graph.nodes.isolated_thread import run_isolated
from gainstage.graph.sites.site_map import Match, shape_of

_MOST_STRUCTURES = 16


@dataclass(frozen=True, slots=True)
class Sample:
    """What was read of a sampled backward call that has ended."""

    profile: Profile
    nodes: Sequence[Any]
    """Of the graph, without leaves."""
    layers: dict[int, Tensor]
    """By place among the nodes, the weight of a layer."""
    cost_s: float

    @property
    def gradients(self) -> SampledGradients:
        """Its levels, by node."""
        return SampledGradients(self.nodes, self.profile.readings)


@dataclass(slots=True)
class _Running:
    """A sampled backward call that is running."""

    probe: Probe
    profile: Profile
    nodes: Sequence[Any]
    layers: dict[int, Tensor]
    cost_s: float


class GraphSampler:
    """Samples one backward call at a time."""

    def __init__(self) -> None:
        self._structures: dict[tuple[str, ...], Structure] = {}
        self._running: _Running | None = None

    @property
    def is_running(self) -> bool:
        """Whether a sampled call has begun."""
        return self._running is not None

    def begin(
        self,
        roots: Sequence[Tensor],
        graph: Sequence[Any],
        nodes: Sequence[Any],
        match: Match,
        *,
        scale: float | Tensor,
        call: int,
        began: float,
        is_thorough: bool,
    ) -> None:
        """Read the forward levels of a graph that is whole, and have the deltas read as it runs.

        Args:
            roots: What backward is called on.
            graph: All nodes, leaves included.
            nodes: Those without leaves.
            match: Their sites.
            scale: The loss scale that will be in the gradients.
            call: Which backward call of the step it is, from 0.
            began: When its reading began, by `time.perf_counter`.
            is_thorough: Whether to compute what a layer has put out where nothing has saved it.
        """
        layers = layers_of(nodes)
        values = Values(graph, roots)
        outputs = {p: _saved_output(values, nodes[p]) for p in places_read(len(nodes), layers)}
        if is_thorough:
            computed = run_isolated(lambda: {p: values.value(nodes[p]) for p in layers})
            outputs = {p: computed.get(p) if out is None else out for p, out in outputs.items()}
        known = {place: value for place, value in outputs.items() if value is not None}
        profile = Profile(call, match.sites, scale, self._structure(graph, nodes, match))
        probe = Probe(nodes, layers.keys(), known)
        cost_s = time.perf_counter() - began
        self._running = _Running(probe, profile, nodes, layers, cost_s)

    def end(self) -> Sample | None:
        """Return what was read of the call that has run, None where it was not sampled."""
        running, self._running = self._running, None
        if running is None:
            return None
        began = time.perf_counter()
        probe = running.probe
        profile = replace(running.profile, readings=probe.finish(), fused=probe.fused)
        cost_s = running.cost_s + probe.cost_s + time.perf_counter() - began
        return Sample(profile, running.nodes, running.layers, cost_s)

    def retire(self) -> None:
        """Let go of graphs."""
        self._running = None
        self._structures.clear()

    def _structure(self, graph: Sequence[Any], nodes: Sequence[Any], match: Match) -> Structure:
        """Return what repeats in a graph; a shape is looked at once."""
        shape = shape_of(nodes)
        structure = self._structures.get(shape)
        if structure is None:
            structure = structure_of(graph, match.sites)
            if len(self._structures) < _MOST_STRUCTURES:
                self._structures[shape] = structure
        return structure


def _saved_output(values: Values, node: Any) -> Tensor | None:
    """Return what a node has put out, where the graph still has it."""
    known = values.known(node, 0)
    return values.known_from_copy(node) if known is None else known
