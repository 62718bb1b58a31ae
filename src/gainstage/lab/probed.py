"""One backward call of the lab, read by what reads the sampled steps of a real run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from gainstage.analysis.gain import slope_bits
from gainstage.detect.level.time_gain import TimeGain, time_gains
from gainstage.errors import GainstageError
from gainstage.graph.levels.probe import Probe
from gainstage.graph.levels.profile import Profile, blocks_of
from gainstage.graph.levels.time_block import Structure, structure_of
from gainstage.graph.nodes.walk import Node, is_leaf, walk


@dataclass(frozen=True, slots=True)
class ProbedLevels:
    """Levels of some tensors of a graph, in bits, in the order in which they were computed."""

    forward_bits: tuple[float, ...]
    peak_bits: tuple[float, ...]
    """Of the largest magnitude; inf where one has overflowed."""
    delta_bits: tuple[float, ...]
    """Of the gradients that came back to them."""

    @property
    def forward_slope(self) -> float:
        """Bits a layer on the way forward."""
        return slope_bits(self.forward_bits)

    @property
    def backward_slope(self) -> float:
        """Bits a layer on the way back; nan where the way forward has overflowed."""
        if not all(peak < math.inf for peak in self.peak_bits):
            return math.nan
        return slope_bits(self.delta_bits[::-1])


def read_levels(
    root: Tensor, states: Sequence[Tensor], gradient: Tensor | None = None
) -> ProbedLevels:
    """Call backward and return the levels of some tensors below the root.

    Args:
        root: What backward is called on.
        states: Tensors that the root depends on, none a leaf.
        gradient: At the root; 1 where it is a single number.
    """
    nodes = _nodes(walk([root]))
    at = {node: place for place, node in enumerate(nodes)}
    places = [at[state.grad_fn] for state in states]
    probe = Probe(nodes, places, dict(zip(places, states, strict=True)))
    root.backward(gradient)
    profile = Profile(0, [-1] * len(nodes), 1.0, Structure([], [], []), readings=probe.finish())
    block, _ = blocks_of(profile, 0)
    rows = np.searchsorted(block.node, places)
    return ProbedLevels(
        tuple(block.forward_bits[rows].tolist()),
        tuple(block.forward_max_bits[rows].tolist()),
        tuple(block.delta_bits[rows].tolist()),
    )


def read_time_steps(loss: Tensor) -> tuple[tuple[float, ...], TimeGain]:
    """Call backward and return what came back to the first recurrence's state.

    Returns:
        The levels of the deltas by time step, in the order of computation, and their growth.

    Raises:
        GainstageError: If the graph holds no recurrence that is long enough.
    """
    graph = walk([loss])
    nodes = _nodes(graph)
    sites = [-1] * len(nodes)
    structure = structure_of(graph, sites)
    states = {at for each in structure.recurrences for at in each.states}
    places = {place for place, at in enumerate(structure.places) if at in states}
    probe = Probe(nodes, places, {})
    loss.backward()
    readings = probe.finish()
    _, times = blocks_of(Profile(0, sites, 1.0, structure, readings, probe.fused), 0)
    gain = next(time_gains(times), None)
    if gain is None:
        raise GainstageError("no recurrence was found in the graph of this loss")
    return tuple(times.delta_bits[times.series == 0].tolist()), gain


def _nodes(graph: Sequence[Node]) -> list[Node]:
    return [node for node in graph if not is_leaf(node)]
