"""Evidence from sampled graphs: levels that climb over the steps, or along a residual stream."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gainstage.diagnose.evidence.piece import Piece
from gainstage.facts.record import RankRecord

_CLIMB_BITS = 4.0
_STATE_BITS = 8.0
_STATE_SHARE = 0.25
"""Of the climb that growing weights may explain."""
_FEWEST_ADDITIONS = 4
_STREAM_BITS = 1.5
"""Beyond the log2(n) / 2 that n additions of equal size make of a stream."""


@dataclass(frozen=True, slots=True)
class StateClimbs:
    """Activations climbed over the steps, and no weight as much."""

    id: str = field(default="state-climbs", init=False)
    climbed_bits: float
    """Of the upper quarter of all activations, at least."""
    weights_grown_bits: float
    first_step: int
    last_step: int

    @property
    def text(self) -> str:
        """The sentence for people."""
        return (
            f"a quarter of all activations climbed {self.climbed_bits:.1f} bits or more from step "
            f"{self.first_step} to {self.last_step}, and no weight more than "
            f"{self.weights_grown_bits:.1f}: a state is carried from step to step, and grows"
        )


@dataclass(frozen=True, slots=True)
class LevelsClimb:
    """Activations climbed over the steps."""

    id: str
    """Another one where a residual stream carries them."""
    climbed_bits: float
    """The median."""
    first_step: int
    last_step: int

    @property
    def text(self) -> str:
        """The sentence for people."""
        return (
            f"activations climbed {self.climbed_bits:.1f} bits (median) from step "
            f"{self.first_step} to {self.last_step}"
        )


@dataclass(frozen=True, slots=True)
class StreamGrows:
    """A residual stream grows by more than what is added to it at the first step."""

    id: str = field(default="stream-grows-at-first-step", init=False)
    grown_bits: float
    additions: int

    @property
    def text(self) -> str:
        """The sentence for people."""
        return (
            f"the residual stream grows {self.grown_bits:.1f} bits over {self.additions} additions "
            "at the first step"
        )


def climb_evidence(record: RankRecord) -> Iterator[Piece]:
    """Yield evidence from levels that climb."""
    yield from _levels_climb(record)
    yield from _stream(record)


def _levels_climb(record: RankRecord) -> Iterator[Piece]:
    profiles = record.profiles
    if not len(profiles):
        return
    steps = np.unique(profiles.step)
    if len(steps) < 4:
        return
    rows = np.ones(len(profiles), dtype=np.bool_)
    adds = _additions(record)
    if record.has_stream and adds.any():
        rows = adds
    first = rows & (profiles.step == steps[0])
    last = rows & (profiles.step == steps[-1])
    climbs: list[float] = []
    for node in np.unique(profiles.node[first]):
        begin = profiles.forward_bits[first & (profiles.node == node)]
        end = profiles.forward_bits[last & (profiles.node == node)]
        if len(begin) and len(end) and np.isfinite(begin[0]) and np.isfinite(end[-1]):
            climbs.append(float(end[-1] - begin[0]))
    if len(climbs) < 3:
        return
    # Of a state that is normalised before it is read, half of the nodes see nothing.
    climb, most = (float(np.quantile(climbs, share)) for share in (0.5, 0.75))
    grown = _weights_grown(record)
    if most >= _STATE_BITS and grown is not None and grown <= _STATE_SHARE * most:
        yield StateClimbs(most, grown, int(steps[0]), int(steps[-1]))
    elif climb >= _CLIMB_BITS:
        name = "levels-climb-along-a-residual-stream" if record.has_stream else "levels-climb"
        yield LevelsClimb(name, climb, int(steps[0]), int(steps[-1]))


def _weights_grown(record: RankRecord) -> float | None:
    """Return by how many bits the weight that grew most has grown, while all were finite.

    A weight that was not read in a row, such as one of another optimizer, does not spoil the row.
    """
    weights = record.weights
    norms = weights.weight_norms.astype(np.float64)
    is_broken = (weights.present & ~np.isfinite(norms)).any(axis=1)
    norms = norms[~is_broken & (np.nan_to_num(norms) > 0).any(axis=1)]
    if len(norms) < 2:
        return None
    grown = 0.0
    for column in norms.T:
        known = column[np.isfinite(column) & (column > 0)]
        if len(known) > 1:
            grown = max(grown, float(np.log2(known[-1]) - np.log2(known[0])))
    return grown


def _stream(record: RankRecord) -> Iterator[Piece]:
    profiles = record.profiles
    if not len(profiles) or not record.has_stream:
        return
    rows = _additions(record) & (profiles.step == profiles.step.min())
    levels = profiles.forward_bits[rows][np.argsort(profiles.node[rows])]
    levels = levels[np.isfinite(levels)]
    if len(levels) < _FEWEST_ADDITIONS:
        return
    grown = float(levels[-1] - levels[0])
    if grown >= math.log2(len(levels)) / 2 + _STREAM_BITS:
        yield StreamGrows(grown, len(levels))


def _additions(record: RankRecord) -> NDArray[np.bool_]:
    """Return which rows of the profiles are additions, such as those to a residual stream."""
    adds = np.array([bool(site.adds) for site in record.sites] + [False])
    # A record may be damaged: a site that is not among those known counts as unmatched.
    sites = record.profiles.site
    return adds[np.where(sites < len(record.sites), sites, -1)]
