"""Levels along the recurrences of a sampled graph, as a block of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gainstage.facts.blocks import ProfileBlock, TimeBlock
from gainstage.graph.levels.fused_rnn import DirectionLevels
from gainstage.graph.levels.operands import GraphNode
from gainstage.graph.levels.recurrence import Recurrence, find_recurrences
from gainstage.graph.levels.time_profile import TimeProfile, fused_profiles, time_profiles
from gainstage.graph.nodes.walk import Node, is_leaf

MOST_NODES = 30_000
"""Graphs up to this size are searched for recurrences, once a shape."""

_PARTS = ("dim", "index", "start", "end")


@dataclass(frozen=True, slots=True)
class Structure:
    """What repeats in graphs of one shape."""

    nodes: list[GraphNode]
    """All of a graph, leaves included."""
    places: list[int]
    """By place among the nodes without leaves, the place in `nodes`."""
    recurrences: list[Recurrence]


def structure_of(graph: Sequence[Node], sites: Sequence[int]) -> Structure:
    """Return what repeats in a graph. Looks at structure only, about 20 µs a node.

    Args:
        graph: All nodes, leaves included.
        sites: By place among the nodes without leaves, the site.
    """
    at = {node: place for place, node in enumerate(graph)}
    inner = [place for place, node in enumerate(graph) if not is_leaf(node)]
    site_at = dict(zip(inner, sites, strict=True))
    nodes = [
        GraphNode(
            site=site_at.get(place, -1),
            op=node.name(),
            sequence=node._sequence_nr(),
            parents=tuple(
                None if parent is None else (at[parent], output)
                for parent, output in node.next_functions
            ),
            parameter=str(id(node.variable)) if is_leaf(node) else None,
            part=_part_of(node),
        )
        for place, node in enumerate(graph)
    ]
    found = find_recurrences(nodes) if len(nodes) <= MOST_NODES else []
    return Structure(nodes, inner, found)


def time_block(
    structure: Structure,
    block: ProfileBlock,
    fused: Mapping[int, Sequence[DirectionLevels]],
    sites: Sequence[int],
    scale_bits: float,
) -> TimeBlock:
    """Return the levels along all recurrences of a sampled graph.

    Args:
        structure: Of graphs of this shape.
        block: The levels of its nodes.
        fused: By place, what was recomputed of a fused recurrent node.
        sites: By place among the nodes without leaves, the site.
        scale_bits: log2 of the loss scale that is in the gradients of `fused`.
    """
    step = int(block.step[0]) if len(block) else 0
    profiles: list[TimeProfile] = []
    if structure.recurrences:
        forward = np.full(len(structure.nodes), np.nan)
        delta = np.full(len(structure.nodes), np.nan)
        at = np.asarray(structure.places)[block.node]
        forward[at], delta[at] = block.forward_bits, block.delta_bits
        profiles += time_profiles(structure.recurrences, structure.nodes, forward, delta)
    for place, directions in fused.items():
        for each in fused_profiles(directions, site=sites[place], module=None):
            each.delta_bits[:] -= scale_bits
            profiles.append(each)
    return _block(step, profiles)


def _block(step: int, profiles: Sequence[TimeProfile]) -> TimeBlock:
    lengths = [each.time_steps for each in profiles]

    def spread(values: Sequence[Any]) -> Any:
        return np.repeat(np.array(values, np.int32), lengths)

    def joined(parts: Sequence[Any], dtype: type) -> Any:
        return np.concatenate([np.asarray(p, dtype) for p in parts] or [np.empty(0, dtype)])

    return TimeBlock(
        step=np.full(sum(lengths), step, np.int64),
        series=spread(range(len(profiles))),
        site=spread([each.site for each in profiles]),
        layer=spread([each.layer for each in profiles]),
        reverse=spread([each.reverse for each in profiles]),
        depth=spread([each.kind == "depth" for each in profiles]),
        time_step=joined([np.arange(length) for length in lengths], np.int32),
        hidden_bits=joined([each.hidden_bits for each in profiles], np.float32),
        delta_bits=joined([each.delta_bits for each in profiles], np.float32),
    )


def _part_of(node: Node) -> tuple[Any, ...] | None:
    """Return which part of its operand a selecting node takes."""
    if not node.name().startswith(("Select", "Slice", "Narrow")):
        return None
    return tuple(getattr(node, f"_saved_{name}", None) for name in _PARTS)
