"""Levels through depth and time, as the report's pictures get them."""

from __future__ import annotations

import base64
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gainstage.facts.fault import Site
from gainstage.facts.findings import Findings
from gainstage.facts.tensor import TensorInfo
from gainstage.show import profiles
from gainstage.show.html import render_report
from gainstage.store.blocks import to_block, to_weight_block
from gainstage.store.reader import load
from recorded import along_time, large_run, levels

NAN, INF = math.nan, math.inf
TENSORS = [TensorInfo(f"layers.{i}.weight", f"layers.{i}", (2, 2), "float32") for i in range(5)]


def decoded(text: str, columns: int) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(-1, columns)


def test_the_ledger_of_a_chain_that_doubles_has_a_slope_of_one_bit() -> None:
    block = levels(7, [0, 1, 2, 3, 4], [1.0, 2.0, 3.0, 4.0, 5.0], [4.0, 3.0, 2.0, 1.0, 0.0])
    found = profiles.ledger_json(profiles.ledger(block), TENSORS)
    assert found["steps"] == [7]
    assert found["names"][0] == "layers.0.weight"
    assert found["backward_slope"] == [1.0]
    assert found["forward_slope"] == [1.0]
    assert decoded(found["backward"], 5).tolist() == [[4, 3, 2, 1, 0]]
    assert decoded(found["headroom"], 5).tolist() == [[127, 126, 125, 124, 123]]


def test_what_comes_out_of_a_layer_is_the_next_known_level_before_another_layer() -> None:
    block = levels(0, [0, -1, -1, 1, 2, -1], [NAN, NAN, 5.0, NAN, NAN, 7.0], [0.0] * 6)
    assert profiles.ledger(block).forward.tolist()[0] == pytest.approx([5.0, NAN, 7.0], nan_ok=True)


def test_a_weight_used_many_times_counts_once_and_infinity_stays() -> None:
    block = levels(0, [0, 0, 0, 1, 2], [1.0, 2.0, 9.0, INF, -INF], [NAN, 3.0, INF, 0.0, 1.0])
    found = profiles.ledger(block)
    assert found.forward.tolist() == [[2.0, INF, -INF]]
    assert found.backward[0, 0] == INF
    assert found.headroom.tolist() == [[119.0, -INF, INF]]


def test_update_ratios_are_learning_rate_times_clipped_gradient_over_weight() -> None:
    rows = [(s, 0.0, 1.0, 0.5, 4.0, 1.0, 0.25, 0, [4.0, None, 0.0]) for s in range(3)]
    weights = to_weight_block([(1, [2.0, 1.0, 1.0]), (9, [1.0, 1.0, 1.0])], 3)
    found = profiles.ratios_json(weights, to_block(rows, 3))
    assert found["steps"] == [1]
    assert decoded(found["bits"], 3).tolist()[0] == pytest.approx([-2.0, NAN, -INF], nan_ok=True)


def test_a_profile_through_time_keeps_the_largest_level_of_what_it_joins() -> None:
    long = np.zeros(1300)
    long[777] = 50.0
    falling = [10.0 - 0.5 * t for t in range(20)]
    found = profiles.times_json(along_time(3, [long.tolist(), falling]), [Site("tanh", "cell")])
    first, second = found["samples"][0]["series"]
    assert len(first["time_step"]) <= profiles.MOST_TIME_STEPS
    assert decoded(first["delta"], 1).max() == 50.0
    assert (second["name"], second["slope"]) == ("cell", 0.5)


def test_biases_stand_with_their_modules_in_the_order_in_which_these_run() -> None:
    tensors = [
        TensorInfo("head.weight", "head", (2, 2), "float32"),
        TensorInfo("head.bias", "head", (2,), "float32"),
        TensorInfo("body.weight", "body", (2, 2), "float32"),
        TensorInfo("body.scale", "elsewhere", (2,), "float32"),
    ]
    block = levels(0, [2, 0], [0.0, 0.0], [0.0, 0.0])
    sites = [Site("mm", "body"), Site("mm", "head")]
    assert profiles.depth_order(tensors, block, sites) == [2, 3, 0, 1]
    assert profiles.depth_order(tensors, levels(0, [], [], []), []) == [0, 1, 2, 3]


@given(st.lists(st.integers(0, 10**6), unique=True, max_size=300), st.integers(4, 64))
def test_chosen_steps_keep_the_first_and_the_last(steps: list[int], most: int) -> None:
    every = np.array(sorted(steps), np.int64)
    kept = profiles.chosen(every, most)
    assert len(kept) <= most
    assert len(set(kept.tolist())) == len(kept)
    assert set(kept.tolist()) <= set(steps)
    if steps:
        assert (kept[0], kept[-1]) == (every[0], every[-1])


def test_nothing_sampled_is_nothing_drawn() -> None:
    empty = levels(0, [], [], [])
    assert profiles.ledger_json(profiles.ledger(empty), TENSORS)["steps"] == []
    assert profiles.times_json(along_time(0, [[]]), [])["samples"] == []
    none = profiles.ratios_json(to_weight_block([], 5), to_block([], 5))
    assert none["steps"] == []


def test_the_report_of_150_tensors_and_10000_steps_is_below_3_megabytes(tmp_path: Path) -> None:
    run = load(large_run(tmp_path / "run", 150, 10_000, 100))
    # The size is that of the pictures; what the detectors see is for other tests.
    vars(run)["findings"] = Findings(10_000, "healthy", ())
    size = len(render_report(run).encode())
    assert 1_000_000 < size <= 3_000_000
