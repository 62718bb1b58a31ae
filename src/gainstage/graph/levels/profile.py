"""The levels of one sampled graph as a block of rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from gainstage.facts.blocks import ProfileBlock, TimeBlock
from gainstage.graph.levels.fused_rnn import DirectionLevels
from gainstage.graph.levels.measure import TensorLevels, level_bits, magnitude_bits
from gainstage.graph.levels.time_block import Structure, time_block


@dataclass(frozen=True, slots=True)
class NodeReading:
    """Levels of what one node put out, and of the gradients that came back to it."""

    place: int
    """In the forward order of the graph."""
    output: TensorLevels | None
    deltas: Sequence[TensorLevels]


@dataclass(frozen=True, slots=True)
class Profile:
    """What was read of one backward call, still where it lies."""

    backward: int
    """Which backward call of the step."""
    sites: Sequence[int]
    """By place, as `SiteMap.match` gives them."""
    scale: float | Tensor
    """Loss scale in the gradients."""
    structure: Structure
    readings: Sequence[NodeReading] = ()
    fused: Mapping[int, Sequence[DirectionLevels]] = field(
        default_factory=dict[int, Sequence[DirectionLevels]]
    )
    """By place, what was recomputed of a fused recurrent node."""
    weights: Mapping[int, int] = field(default_factory=dict[int, int])
    """By place of a layer, the column of its weight."""


def blocks_of(profile: Profile, step: int) -> tuple[ProfileBlock, TimeBlock]:
    """Return the rows of a profile, by node and along recurrences.

    Waits for an accelerator, where the levels are on one.
    """
    scale_bits = math.log2(float(profile.scale) or 1.0)
    block = _profile_block(profile, step, scale_bits)
    times = time_block(profile.structure, block, profile.fused, profile.sites, scale_bits)
    return block, times


def _profile_block(profile: Profile, step: int, scale_bits: float) -> ProfileBlock:
    readings = profile.readings
    bits = np.array([_bits_of(reading) for reading in readings], np.float32).reshape(-1, 5)
    bits[:, 2:4] -= scale_bits
    places = np.array([reading.place for reading in readings], np.int32)
    return ProfileBlock(
        step=np.full(len(readings), step, np.int64),
        backward=np.full(len(readings), profile.backward, np.int32),
        node=places,
        site=np.array([profile.sites[place] for place in places], np.int32),
        weight=np.array([profile.weights.get(int(place), -1) for place in places], np.int32),
        forward_bits=bits[:, 0].copy(),
        forward_max_bits=bits[:, 1].copy(),
        delta_bits=bits[:, 2].copy(),
        delta_max_bits=bits[:, 3].copy(),
        headroom_bits=bits[:, 4].copy(),
    )


def _bits_of(reading: NodeReading) -> tuple[float, float, float, float, float]:
    output = () if reading.output is None else (reading.output,)
    forward, forward_max = _levels(output)
    delta, delta_max = _levels(reading.deltas)
    headroom = math.inf
    for levels in (*output, *reading.deltas):
        limit = math.log2(torch.finfo(levels.dtype).max)
        headroom = min(headroom, limit - magnitude_bits([float(levels.largest)]))
    return forward, forward_max, delta, delta_max, headroom


def _levels(read: Sequence[TensorLevels]) -> tuple[float, float]:
    norms = [float(abs(levels.norm)) for levels in read]
    return (
        level_bits(norms, [levels.numel for levels in read]),
        magnitude_bits([float(levels.largest) for levels in read]),
    )
