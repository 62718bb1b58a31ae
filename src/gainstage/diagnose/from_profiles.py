"""Evidence from sampled profiles: gain through depth and time, levels that climb over steps."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gainstage.detect.level.depth_gain import depth_gain, first_graph
from gainstage.detect.level.time_gain import time_gains
from gainstage.detect.scan import sampled_graphs
from gainstage.facts.record import RankRecord

_SLOPE_BITS = 0.3
_TOTAL_BITS = 6.0
FADED_BITS = 12.0
_CLIMB_BITS = 4.0
_STATE_BITS = 8.0
_STATE_SHARE = 0.25
"""Of the climb that growing weights may explain."""
_GROWS = ("depth-grows-at-first-step", "depth-grows-later")
_FEWEST_ADDITIONS = 4
_STREAM_BITS = 1.5
"""Beyond the log2(n) / 2 that n additions of equal size make of a stream."""
_TIME_SLOPE_BITS = 0.05


def profile_evidence(record: RankRecord) -> Iterator[tuple[str, str]]:
    """Yield rows of the evidence table, with words."""
    through_time = list(time_evidence(record))
    names = {name for name, _ in through_time}
    grows_in_time = "time-grows-at-first-step" in names
    # What a recurrence multiplies arrives multiplied at the layers before it, too.
    yield from (each for each in _depth(record) if not grows_in_time or each[0] not in _GROWS)
    yield from through_time
    # What grows from one time step to the next within a pass is not carried on to the next pass.
    is_within = grows_in_time or "time-grows-later" in names
    yield from (e for e in _climb(record) if not is_within or e[0] != "state-climbs")
    yield from _stream(record)


def _depth(record: RankRecord) -> Iterator[tuple[str, str]]:
    found = depth_gain(first_graph(record.profiles))
    if found is None:
        return
    layers, slope, forward = found.layers, found.backward_bits, found.forward_bits
    total = slope * (layers - 1)
    and_forward = f"; activations {forward:+.2f} bits a layer" if np.isfinite(forward) else ""
    if slope >= _SLOPE_BITS and total >= _TOTAL_BITS:
        yield (
            "depth-grows-at-first-step",
            f"deltas grow {slope:.2f} bits a layer over {layers} layers at the first step, before "
            f"any update{and_forward}",
        )
    elif np.isfinite(forward) and forward >= _SLOPE_BITS and forward * (layers - 1) >= _TOTAL_BITS:
        yield (
            "depth-grows-at-first-step",
            f"activations grow {forward:.2f} bits a layer over {layers} layers at the first step",
        )
    else:
        if total <= -FADED_BITS:
            yield (
                "depth-fades-at-first-step",
                f"deltas fade {-slope:.2f} bits a layer over {layers} layers at the first step, "
                f"before any update{and_forward}",
            )
        elif abs(total) < _TOTAL_BITS / 2:
            yield "depth-flat-at-first-step", f"deltas change {slope:+.2f} bits a layer at step 0"
        yield from _depth_later(record)


def _depth_later(record: RankRecord) -> Iterator[tuple[str, str]]:
    """What was flat at first and multiplies later has been made to by training."""
    graphs = sampled_graphs(record.profiles, record.times)
    gains = [(int(block.step[0]), gain) for block, _ in graphs if (gain := depth_gain(block))]
    steepest = max(gains, key=lambda each: np.nan_to_num(each[1].total_bits), default=None)
    if steepest is None or not steepest[1].total_bits >= _TOTAL_BITS:
        return
    step, gain = steepest
    name = "depth-grows-later-along-a-residual-stream" if record.has_stream else "depth-grows-later"
    yield (
        name,
        f"at step {step} deltas grow {gain.backward_bits:.2f} bits a layer and activations "
        f"{gain.forward_bits:+.2f}, over {gain.layers} layers",
    )


def time_evidence(record: RankRecord) -> Iterator[tuple[str, str]]:
    """Yield what the sampled graphs show of growth through time."""
    times = record.times
    if not len(times):
        if len(record.profiles):
            yield "no-recurrence", "no weight is used again and again in the sampled graphs"
        return
    gains = list(time_gains(times))
    if not gains:
        return
    first = max((g for g in gains if g.step == gains[0].step), key=lambda g: g.total_bits)
    steepest = max(gains, key=lambda g: g.total_bits)
    said = f"{first.slope_bits:+.2f} bits a time step over {first.time_steps} steps"
    if first.slope_bits >= _TIME_SLOPE_BITS and first.total_bits >= _TOTAL_BITS:
        yield "time-grows-at-first-step", f"deltas grow {said} at the first step"
        return
    hidden = first.hidden_slope_bits
    both = first.slope_bits >= _TIME_SLOPE_BITS and hidden >= _TIME_SLOPE_BITS
    if both and hidden * (first.time_steps - 1) >= _TOTAL_BITS:
        yield (
            "time-grows-at-first-step",
            f"states grow {hidden:.2f} bits a time step, deltas {said}, at the first step",
        )
        return
    if first.total_bits < _TOTAL_BITS / 2:
        yield "time-flat-at-first-step", f"deltas change {said} at the first step"
    if steepest.slope_bits >= _TIME_SLOPE_BITS and steepest.total_bits >= _TOTAL_BITS:
        yield (
            "time-grows-later",
            f"deltas grow {steepest.slope_bits:.2f} bits a time step at step {steepest.step}",
        )


def _climb(record: RankRecord) -> Iterator[tuple[str, str]]:
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
        yield (
            "state-climbs",
            f"a quarter of all activations climbed {most:.1f} bits or more from step {steps[0]} to "
            f"{steps[-1]}, and no weight more than {grown:.1f}: a state is carried from step to "
            "step, and grows",
        )
    elif climb >= _CLIMB_BITS:
        name = "levels-climb-along-a-residual-stream" if record.has_stream else "levels-climb"
        yield (
            name,
            f"activations climbed {climb:.1f} bits (median) from step {steps[0]} to {steps[-1]}",
        )


def _weights_grown(record: RankRecord) -> float | None:
    """Return by how many bits the weight that grew most has grown, while all were finite."""
    norms = record.weights.weight_norms.astype(np.float64)
    finite = norms[np.isfinite(norms).all(axis=1) & (norms > 0).any(axis=1)]
    if len(finite) < 2:
        return None
    there = (finite[0] > 0) & (finite[-1] > 0)
    grown = np.log2(finite[-1][there]) - np.log2(finite[0][there])
    return float(max(grown.max(initial=0.0), 0.0))


def _stream(record: RankRecord) -> Iterator[tuple[str, str]]:
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
        yield (
            "stream-grows-at-first-step",
            f"the residual stream grows {grown:.1f} bits over {len(levels)} additions at the "
            "first step",
        )


def _additions(record: RankRecord) -> NDArray[np.bool_]:
    """Return which rows of the profiles are additions, such as those to a residual stream."""
    adds = np.array([site.op in ("add", "add_") for site in record.sites] + [False])
    return adds[record.profiles.site]
