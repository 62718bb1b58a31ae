"""Closed forms, oracles and invariants of what the lab computes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gainstage.lab
from gainstage.analysis.gain import level_bits, slope_bits
from gainstage.lab import chain
from gainstage.lab.adding_task import Adder, draw
from gainstage.lab.clip_kinds import HISTORY, KINDS, calm_norms, clipped
from gainstage.lab.clipping import advise
from gainstage.lab.deep_net import profile
from gainstage.lab.initial_scale import initialised
from gainstage.lab.overflow import overflow_depth
from gainstage.lab.time_steps import added_gradients, by_time_step

WEIGHTS = st.floats(0.1, 3) | st.floats(-3, -0.1)


@given(w=WEIGHTS, n=st.integers(1, 12), x=st.floats(-4, 4))
@settings(max_examples=60)
def test_autograd_agrees_with_the_closed_forms_of_the_chain(w: float, n: int, x: float) -> None:
    found = chain(w, n, x, dtype="float64", lr=0.0).given.layers
    for layer in found:
        i = layer.index
        assert layer.activation == pytest.approx(w**i * x, rel=1e-9, abs=1e-300)
        assert layer.delta_output == pytest.approx(w ** (n - i), rel=1e-9)
        assert layer.delta_input == pytest.approx(w ** (n - i + 1), rel=1e-9)
        assert layer.weight_grad == pytest.approx(w ** (n - 1) * x, rel=1e-9, abs=1e-300)


@given(w=st.floats(1.05, 4) | st.floats(0.2, 0.95), x=st.floats(0.25, 4))
@settings(max_examples=20)
def test_the_formula_and_the_run_lose_the_same_layer_in_bfloat16(w: float, x: float) -> None:
    found = overflow_depth(w, x, "bfloat16")
    assert found.predicted is not None
    assert found.measured is None or abs(found.measured - found.predicted) <= max(
        2, 0.05 * found.predicted
    )
    if found.measured is not None and w > 1:
        assert math.isfinite(found.last_value)
        assert math.isinf(found.lost_value)


@given(
    values=st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=6),
    limit=st.floats(0.01, 100),
)
def test_no_kind_of_clipping_lengthens_and_without_memory_twice_is_once(
    values: list[float], limit: float
) -> None:
    grads = [torch.tensor(values[:1], dtype=torch.float64), torch.tensor(values[1:]).double()]
    weights = [torch.ones_like(grad) for grad in grads]
    for kind in KINDS:
        once = clipped(kind, weights, grads, limit)
        twice = clipped(kind, weights, once, limit)
        for before, after, again in zip(grads, once, twice, strict=True):
            assert bool((after.abs() <= before.abs() * (1 + 1e-9) + 1e-9).all()), kind.name
            if kind.name not in ("AutoClip", "ZClip"):
                assert torch.allclose(after, again, rtol=1e-4, atol=1e-9), kind.name


def test_the_kinds_that_remember_clip_by_the_stated_history() -> None:
    grads, weights = [torch.tensor([16.0, 12.0, -8.0])], [torch.ones(3)]
    norms = calm_norms(5.0)
    assert (len(norms), norms[0], norms[-1]) == (HISTORY, 2.5, 5.0)
    by = {kind.name: clipped(kind, weights, grads, 5.0)[0] for kind in KINDS}
    length = math.sqrt(464)
    tenth = float(np.percentile([*norms, length], 10))
    assert float(by["AutoClip"].norm()) == pytest.approx(tenth, rel=1e-5)
    mean, variance = float(np.mean(norms[:25])), float(np.var(norms[:25]))
    for norm in norms[25:]:
        assert norm < mean + 2.5 * math.sqrt(variance) or norm > mean
        cut = (
            min(norm, mean + 2.5**2 * variance / (norm - mean))
            if (norm > mean + 2.5 * math.sqrt(variance))
            else norm
        )
        variance = 0.97 * variance + 0.03 * (cut - mean) ** 2
        mean = 0.97 * mean + 0.03 * cut
    expected = mean + 2.5**2 * variance / (length - mean)
    assert float(by["ZClip"].norm()) == pytest.approx(expected, rel=1e-5)
    assert float(by["update (SGD)"].square().mean()) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("activation", ["linear", "tanh", "relu", "gelu"])
def test_a_hundred_layers_initialised_by_the_tool_keep_their_level(activation: str) -> None:
    inputs = torch.randn(64, 128, generator=torch.Generator().manual_seed(3))
    found = profile(initialised("auto", activation, 100, inputs, 7), inputs)
    bound = 0.15 if activation in ("tanh", "gelu") else 0.05
    assert abs(found.forward_slope) <= bound
    assert abs(found.backward_slope) <= bound


def test_what_the_time_steps_add_is_the_gradient() -> None:
    torch.manual_seed(0)
    model = Adder("rnn")
    inputs, sums = draw(4, 7, torch.Generator().manual_seed(0))
    torch.nn.functional.mse_loss(model(inputs), sums).backward()
    whole = model.recurrent.get_parameter("weight_hh_l0").grad
    assert whole is not None
    added = added_gradients(model, inputs, sums)
    torch.testing.assert_close(torch.stack(added).sum(0), whole)
    assert not added[0].any()


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_the_record_of_time_steps_is_what_autograd_gives_each_state(cell: str) -> None:
    torch.manual_seed(0)
    model = Adder(cell)
    inputs, sums = draw(4, 9, torch.Generator().manual_seed(0))
    state: torch.Tensor | None = None
    memory = torch.zeros(1, 4, 32)
    states: list[torch.Tensor] = []
    for time_step in range(9):
        x = inputs[:, time_step : time_step + 1]
        if cell == "lstm":
            _, (state, memory) = model.recurrent(x, None if state is None else (state, memory))
        else:
            _, state = model.recurrent(x, state)
        assert state is not None
        state.retain_grad()
        states.append(state)
    answers = model.readout(states[-1][0]).squeeze(1)
    torch.nn.functional.mse_loss(answers, sums).backward()
    levels = [level_bits(each.grad) for each in states if each.grad is not None]
    found, gain = by_time_step(model, inputs, sums)
    assert list(found) == pytest.approx(levels, abs=1e-3)
    assert gain.slope_bits == pytest.approx(-slope_bits(levels), abs=1e-3)


def test_advice_replays_what_each_threshold_would_have_clipped() -> None:
    found = {each.percentile: each for each in advise([float(i) for i in range(1, 101)])}
    assert found[90].max_norm == pytest.approx(90.1)
    assert found[90].share_clipped == pytest.approx(0.1)
    assert advise([math.nan]) == ()


def test_objects_show_themselves_in_a_notebook_and_names_are_these() -> None:
    page = chain()._repr_html_()
    assert "524288" in page
    assert "<script" not in page
    for name in gainstage.lab.__all__:
        assert callable(getattr(gainstage.lab, name))
    with pytest.raises(AttributeError, match="has no attribute 'chains'"):
        gainstage.lab.chains  # noqa: B018
