"""Detectors of sampled graphs: growth through depth and time, headroom, what was written."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainstage.detect.kind.symptom_kind import Signal, SymptomKind
from gainstage.detect.level import (
    depth_gain,
    headroom_low,
    level_forecast,
    log_forecast,
    overflow_forecast,
    time_gain,
)
from gainstage.detect.scan import sampled_graphs
from gainstage.detect.update import update_nonfinite
from gainstage.facts.blocks import ProfileBlock, TimeBlock
from gainstage.facts.fault import Fault, FaultEvidence, Share, Site
from gainstage.facts.observation import LogNearZero, Observation


def signals_of(update: Callable[..., Any], state: Any, inputs: Iterable[Any]) -> list[Signal]:
    """Return all that a detector says of some inputs, one after the other."""
    found: list[Signal] = []
    for each in inputs:
        state, signals = update(state, each)
        found += signals
    return found


def first_of(symptom: Any, given: Any) -> Signal | None:
    """Return what the detector in a symptom's file says of one input, from its beginning."""
    kind: SymptomKind = symptom.KIND
    return next(iter(signals_of(symptom.update, kind.detectors[0].start(), [given])), None)


def graph(
    deltas: list[float], *, step: int = 0, outputs: list[float] | None = None, limit: float = 128.0
) -> ProfileBlock:
    count = len(deltas)
    zeros, delta = np.zeros(count, np.int32), np.array(deltas, np.float32)
    forward = np.zeros(count, np.float32) if outputs is None else np.array(outputs, np.float32)
    return ProfileBlock(
        step=np.full(count, step, np.int64),
        backward=zeros,
        node=np.arange(count, dtype=np.int32),
        site=zeros,
        weight=np.arange(count, dtype=np.int32),
        forward_bits=forward,
        forward_max_bits=forward,
        delta_bits=delta,
        delta_max_bits=delta,
        headroom_bits=(limit - np.maximum(delta, forward)).astype(np.float32),
    )


def recurrence(deltas: list[float], *, depth: bool = False) -> TimeBlock:
    count = len(deltas)
    zeros = np.zeros(count, np.int32)
    return TimeBlock(
        step=np.zeros(count, np.int64),
        series=zeros,
        site=zeros,
        layer=zeros,
        reverse=zeros,
        depth=zeros + depth,
        time_step=np.arange(count, dtype=np.int32),
        hidden_bits=np.zeros(count, np.float32),
        delta_bits=np.array(deltas, np.float32),
    )


def test_twenty_layers_of_gain_two_are_noticed_at_the_first_step() -> None:
    sign = first_of(depth_gain, graph([19.0 - i for i in range(20)]))
    assert sign is not None
    assert (sign.step, sign.is_strong) == (0, True)
    assert sign.evidence.backward_bits_per_layer == pytest.approx(1.0)
    assert sign.evidence.layers_to_overflow == pytest.approx(109.0)
    assert "deltas grow 1.00 bits a layer over 20 layers" in depth_gain.message(sign.evidence)


def test_growing_activations_are_told_as_such() -> None:
    sign = first_of(depth_gain, graph([0.0] * 12, outputs=[2.0 * i for i in range(12)]))
    assert sign is not None
    assert depth_gain.message(sign.evidence).startswith("activations grow 2.00 bits a layer")


@pytest.mark.parametrize(
    "deltas",
    [[0.0] * 20, [-1.3 * i for i in range(3)], [0.1 * (20 - i) for i in range(20)], [5.0] * 3],
)
def test_flat_or_short_or_slow_networks_are_no_sign(deltas: list[float]) -> None:
    assert first_of(depth_gain, graph(deltas)) is None


def test_a_weight_used_at_every_time_step_counts_once() -> None:
    block = graph([float(i) for i in range(40)])
    block.weight[:] = 0
    assert depth_gain.depth_gain(block) is None


def test_the_same_growth_is_told_once_and_more_of_it_again() -> None:
    graphs = [
        graph([20.0 - i for i in range(20)]),
        graph([20.0 - i for i in range(20)], step=5),
        graph([40.0 - 2 * i for i in range(20)], step=6),
    ]
    found = signals_of(depth_gain.update, depth_gain.Depth(), graphs)
    assert [each.step for each in found] == [0, 6]


@given(st.floats(-2, 2), st.integers(6, 60), st.floats(-20, 20))
def test_a_steady_recurrence_has_its_slope(slope: float, length: int, level: float) -> None:
    block = recurrence([level - slope * step for step in range(length)])
    (gain,) = time_gain.time_gains(block)
    assert gain.slope_bits == pytest.approx(slope, abs=1e-4)
    assert gain.time_steps == length
    if slope < -0.01:
        assert gain.memory_horizon == pytest.approx(24 / -slope, rel=0.02)
    if slope > 0.01:
        assert gain.steps_to_overflow < math.inf


def test_gain_through_time_is_noticed_and_gain_through_depth_is_another_matter() -> None:
    deltas = [0.5 * (64 - step) for step in range(64)]
    sign = first_of(time_gain, recurrence(deltas))
    assert sign is not None
    assert sign.is_strong
    assert "0.50 bits a time step over 64 steps" in time_gain.message(sign.evidence)
    assert first_of(time_gain, recurrence(deltas, depth=True)) is None


def test_an_output_near_the_limit_of_float16_is_told_and_a_scaled_gradient_is_not() -> None:
    limit = math.log2(65504)
    near = graph([0.0] * 2, outputs=[15.5, 3.0], limit=limit)
    sign = first_of(headroom_low, near)
    assert sign is not None
    assert sign.evidence.dtype == "float16"
    scaled = graph([15.5, 0.0], outputs=[3.0, 3.0], limit=limit)
    assert first_of(headroom_low, scaled) is None


def test_a_mask_at_the_limit_is_no_output_near_it() -> None:
    limit = math.log2(65504)
    assert first_of(headroom_low, graph([0.0], outputs=[limit], limit=limit)) is None


def told_of(levels: dict[int, float], limit: float = math.log2(65504)) -> list[Signal]:
    """Return what is told of an operation's largest values, in bits, on sampled steps."""
    graphs = [graph([0.0], step=step, outputs=[bits], limit=limit) for step, bits in levels.items()]
    return signals_of(level_forecast.update, level_forecast.OutputSeries(), graphs)


SAMPLED = [0, 1, 2, 3, 4, 6, 8, 11, 14, 18, 23, 29, 37, 47, 59, 74, 93, 117, 147, 184]


def test_an_output_on_its_way_to_float16s_limit_is_told_long_before_with_the_step() -> None:
    (sign,) = told_of({step: 9.0 + 0.04 * step for step in SAMPLED})
    assert sign.severity == "warning"
    assert sign.evidence.overflow_step == pytest.approx(7 / 0.04, abs=2)
    assert sign.step < 100
    assert "passes float16's largest value at step 175" in overflow_forecast.message(sign.evidence)


@pytest.mark.parametrize(
    "levels",
    [
        {step: 12.0 + (2.0 - 2.0 * 0.95**step) for step in SAMPLED},  # levels off below the limit
        {step: 9.0 + 0.5 * math.log2(1 + step) for step in SAMPLED},
        {step: 13.5 + 0.5 * (-1) ** i for i, step in enumerate(SAMPLED)},
        {step: 14.0 - 0.02 * step for step in SAMPLED},
        {step: 5.0 + 0.04 * step for step in SAMPLED},  # rises, with a third of the range left
    ],
)
def test_levels_that_settle_or_are_far_from_the_limit_are_not(levels: dict[int, float]) -> None:
    assert told_of(levels) == []


def test_the_forecast_follows_a_dtype_and_not_the_gradients_of_a_loss_scaler() -> None:
    scaled = [
        graph([9.0 + 0.04 * step], step=step, outputs=[1.0], limit=math.log2(65504))
        for step in SAMPLED
    ]
    assert signals_of(level_forecast.update, level_forecast.OutputSeries(), scaled) == []
    wide = told_of({step: 98.0 + 0.2 * step for step in SAMPLED}, limit=math.log2(3.4028235e38))
    assert [sign.evidence.dtype for sign in wide] == ["float32"]


def near_zero(bits: dict[int, float], limit: float = 24.0) -> list[Signal]:
    """Return what is told of a logarithm's smallest arguments, in bits, on sampled steps."""
    facts = [
        Observation(LogNearZero(bits=each, limit_bits=limit), step, "train.py", 20)
        for step, each in bits.items()
    ]
    return signals_of(log_forecast.update, log_forecast.LogSeries(), facts)


def test_an_argument_that_shrinks_to_0_is_told_before_with_line_and_step() -> None:
    (sign,) = near_zero({step: 0.15 * step for step in SAMPLED if step > 25})
    assert (sign.severity, sign.step) == ("warning", 117)
    assert sign.evidence.overflow_step == pytest.approx(24 / 0.15, abs=2)
    assert "the logarithm in line 20" in overflow_forecast.message(sign.evidence)
    assert near_zero({step: 0.15 * step for step in SAMPLED if step > 25}, limit=149.0) == []


def test_arguments_that_settle_above_0_are_not() -> None:
    highs = {step: 17.0 - 17.0 * 0.97**step for step in SAMPLED}
    assert near_zero(highs) == []
    assert near_zero({step: 3.0 * math.log2(1 + step) for step in SAMPLED}, limit=60.0) == []


def test_an_update_that_is_not_finite_is_critical_at_the_step_that_made_it() -> None:
    written = FaultEvidence(reason="update", share=Share(2, 4))
    fault = Fault(3, "update", "optimizer", Site("addcdiv"), written, parameter="w")
    (sign,) = signals_of(update_nonfinite.update, None, [fault])
    assert (sign.severity, sign.step) == ("critical", 3)
    message = update_nonfinite.message(sign.evidence)
    assert message == "the update made 2 of 4 elements of w NaN or inf at step 3"
    other = Fault(3, "domain", "loss", Site("log"))
    assert signals_of(update_nonfinite.update, None, [other]) == []


def test_a_record_is_cut_into_the_graphs_that_were_sampled() -> None:
    parts = [graph([1.0, 2.0], step=4), graph([3.0] * 3, step=9)]
    whole = ProfileBlock(
        *[np.concatenate([getattr(p, n) for p in parts]) for n in ProfileBlock.__slots__]
    )
    times = recurrence([0.0] * 4)
    times.step[:] = 9
    cut = list(sampled_graphs(whole, times))
    assert [len(block) for block, _ in cut] == [2, 3]
    assert [len(mine) for _, mine in cut] == [0, 4]
