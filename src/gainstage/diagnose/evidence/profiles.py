"""Evidence from sampled graphs: gain through depth and time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from gainstage.detect.level.depth_gain import depth_gain, first_graph
from gainstage.detect.level.time_gain import time_gains
from gainstage.detect.scan import sampled_graphs
from gainstage.diagnose.evidence.climbs import climb_evidence
from gainstage.diagnose.evidence.piece import Piece, Plain
from gainstage.facts.record import RankRecord

_SLOPE_BITS = 0.3
_TOTAL_BITS = 6.0
FADED_BITS = 12.0
_GROWS = ("depth-grows-at-first-step", "depth-grows-later")
_TIME_SLOPE_BITS = 0.05


@dataclass(frozen=True, slots=True)
class DepthGrows:
    """Deltas grow from layer to layer at the first step, before any update."""

    id: str = field(default="depth-grows-at-first-step", init=False)
    delta_bits_a_layer: float
    layers: int
    forward_bits_a_layer: float
    """NaN where the activations of the layers are not known."""

    @property
    def text(self) -> str:
        """The sentence for people."""
        return (
            f"deltas grow {self.delta_bits_a_layer:.2f} bits a layer over {self.layers} layers at "
            f"the first step, before any update{_and_forward(self.forward_bits_a_layer)}"
        )


@dataclass(frozen=True, slots=True)
class ActivationsGrow:
    """Activations grow from layer to layer at the first step, and deltas do not."""

    id: str = field(default="depth-grows-at-first-step", init=False)
    forward_bits_a_layer: float
    layers: int

    @property
    def text(self) -> str:
        """The sentence for people."""
        return (
            f"activations grow {self.forward_bits_a_layer:.2f} bits a layer over {self.layers} "
            "layers at the first step"
        )


@dataclass(frozen=True, slots=True)
class DepthFades:
    """Deltas fade from layer to layer at the first step, before any update."""

    id: str = field(default="depth-fades-at-first-step", init=False)
    delta_bits_a_layer: float
    layers: int
    forward_bits_a_layer: float
    """NaN where the activations of the layers are not known."""

    @property
    def text(self) -> str:
        """The sentence for people."""
        return (
            f"deltas fade {-self.delta_bits_a_layer:.2f} bits a layer over {self.layers} layers at "
            f"the first step, before any update{_and_forward(self.forward_bits_a_layer)}"
        )


@dataclass(frozen=True, slots=True)
class DepthFlat:
    """Deltas hardly change from layer to layer at the first step."""

    id: str = field(default="depth-flat-at-first-step", init=False)
    delta_bits_a_layer: float

    @property
    def text(self) -> str:
        """The sentence for people."""
        return f"deltas change {self.delta_bits_a_layer:+.2f} bits a layer at step 0"


@dataclass(frozen=True, slots=True)
class DepthGrowsLater:
    """What was flat at first and multiplies later has been made to by training."""

    id: str
    """Another one where a residual stream carries the activations."""
    step: int
    delta_bits_a_layer: float
    forward_bits_a_layer: float
    layers: int

    @property
    def text(self) -> str:
        """The sentence for people."""
        forward = self.forward_bits_a_layer
        activations = f" and activations {forward:+.2f}" if np.isfinite(forward) else ""
        return (
            f"at step {self.step} deltas grow {self.delta_bits_a_layer:.2f} bits a layer"
            f"{activations}, over {self.layers} layers"
        )


@dataclass(frozen=True, slots=True)
class TimeGrows:
    """Deltas or states grow from one time step to the next at the first step."""

    id: str = field(default="time-grows-at-first-step", init=False)
    delta_bits_a_time_step: float
    time_steps: int
    hidden_bits_a_time_step: float | None = None
    """Where only deltas and states together show it."""

    @property
    def text(self) -> str:
        """The sentence for people."""
        deltas = f"{self.delta_bits_a_time_step:+.2f} bits a time step over {self.time_steps} steps"
        if self.hidden_bits_a_time_step is None:
            return f"deltas grow {deltas} at the first step"
        states = f"{self.hidden_bits_a_time_step:.2f} bits a time step"
        return f"states grow {states}, deltas {deltas}, at the first step"


@dataclass(frozen=True, slots=True)
class TimeFlat:
    """Deltas hardly change from one time step to the next at the first step."""

    id: str = field(default="time-flat-at-first-step", init=False)
    delta_bits_a_time_step: float
    time_steps: int

    @property
    def text(self) -> str:
        """The sentence for people."""
        deltas = f"{self.delta_bits_a_time_step:+.2f} bits a time step over {self.time_steps} steps"
        return f"deltas change {deltas} at the first step"


@dataclass(frozen=True, slots=True)
class TimeGrowsLater:
    """Deltas grow from one time step to the next in a later step."""

    id: str = field(default="time-grows-later", init=False)
    delta_bits_a_time_step: float
    step: int

    @property
    def text(self) -> str:
        """The sentence for people."""
        bits = self.delta_bits_a_time_step
        return f"deltas grow {bits:.2f} bits a time step at step {self.step}"


_NO_RECURRENCE = Plain("no-recurrence", "no weight is used again and again in the sampled graphs")


def _and_forward(bits_a_layer: float) -> str:
    return f"; activations {bits_a_layer:+.2f} bits a layer" if math.isfinite(bits_a_layer) else ""


def profile_evidence(record: RankRecord) -> Iterator[Piece]:
    """Yield evidence from sampled graphs."""
    through_time = list(time_evidence(record))
    names = {piece.id for piece in through_time}
    grows_in_time = "time-grows-at-first-step" in names
    # What a recurrence multiplies arrives multiplied at the layers before it, too.
    yield from (p for p in _depth(record) if not grows_in_time or p.id not in _GROWS)
    yield from through_time
    # What grows from one time step to the next within a pass is not carried on to the next pass.
    is_within = grows_in_time or "time-grows-later" in names
    yield from (p for p in climb_evidence(record) if not is_within or p.id != "state-climbs")


def _depth(record: RankRecord) -> Iterator[Piece]:
    found = depth_gain(first_graph(record.profiles))
    if found is None:
        return
    layers, slope, forward = found.layers, found.backward_bits, found.forward_bits
    total = slope * (layers - 1)
    if slope >= _SLOPE_BITS and total >= _TOTAL_BITS:
        yield DepthGrows(slope, layers, forward)
    elif np.isfinite(forward) and forward >= _SLOPE_BITS and forward * (layers - 1) >= _TOTAL_BITS:
        yield ActivationsGrow(forward, layers)
    else:
        if total <= -FADED_BITS:
            yield DepthFades(slope, layers, forward)
        elif abs(total) < _TOTAL_BITS / 2:
            yield DepthFlat(slope)
        yield from _depth_later(record)


def _depth_later(record: RankRecord) -> Iterator[Piece]:
    """What was flat at first and multiplies later has been made to by training."""
    graphs = sampled_graphs(record.profiles, record.times)
    gains = [(int(block.step[0]), gain) for block, _ in graphs if (gain := depth_gain(block))]
    steepest = max(gains, key=lambda each: np.nan_to_num(each[1].total_bits), default=None)
    if steepest is None or not steepest[1].total_bits >= _TOTAL_BITS:
        return
    step, gain = steepest
    name = "depth-grows-later-along-a-residual-stream" if record.has_stream else "depth-grows-later"
    yield DepthGrowsLater(name, step, gain.backward_bits, gain.forward_bits, gain.layers)


def time_evidence(record: RankRecord) -> Iterator[Piece]:
    """Yield what the sampled graphs show of growth through time."""
    times = record.times
    if not len(times):
        if len(record.profiles):
            yield _NO_RECURRENCE
        return
    gains = list(time_gains(times))
    if not gains:
        return
    first = max((g for g in gains if g.step == gains[0].step), key=lambda g: g.total_bits)
    steepest = max(gains, key=lambda g: g.total_bits)
    if first.slope_bits >= _TIME_SLOPE_BITS and first.total_bits >= _TOTAL_BITS:
        yield TimeGrows(first.slope_bits, first.time_steps)
        return
    hidden = first.hidden_slope_bits
    both = first.slope_bits >= _TIME_SLOPE_BITS and hidden >= _TIME_SLOPE_BITS
    if both and hidden * (first.time_steps - 1) >= _TOTAL_BITS:
        yield TimeGrows(first.slope_bits, first.time_steps, hidden)
        return
    if first.total_bits < _TOTAL_BITS / 2:
        yield TimeFlat(first.slope_bits, first.time_steps)
    if steepest.slope_bits >= _TIME_SLOPE_BITS and steepest.total_bits >= _TOTAL_BITS:
        yield TimeGrowsLater(steepest.slope_bits, steepest.step)
