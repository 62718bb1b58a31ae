"""Closed forms, oracles and invariants of what the lab computes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gainstage.lab
from gainstage.lab import chain
from gainstage.lab.clip_kinds import KINDS, clipped
from gainstage.lab.clipping import advise
from gainstage.lab.deep_net import orthogonal
from gainstage.lab.lyapunov import lyapunov_exponents
from gainstage.lab.mean_field import slopes
from gainstage.lab.overflow import overflow_depth
from gainstage.lab.time_steps import by_time_step

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
def test_no_kind_of_clipping_lengthens_and_clipping_twice_is_clipping_once(
    values: list[float], limit: float
) -> None:
    grads = [torch.tensor(values[:1], dtype=torch.float64), torch.tensor(values[1:]).double()]
    weights = [torch.ones_like(grad) for grad in grads]
    for kind in KINDS:
        once = clipped(kind, weights, grads, limit)
        twice = clipped(kind, weights, once, limit)
        for before, after, again in zip(grads, once, twice, strict=True):
            assert bool((after.abs() <= before.abs() + 1e-12).all()), kind.name
            assert torch.allclose(after, again, rtol=1e-4, atol=1e-9), kind.name


def test_the_adaptive_kind_bounds_each_unit_by_its_weights() -> None:
    adaptive = next(kind for kind in KINDS if kind.name == "adaptive")
    weight = torch.tensor([[3.0, 4.0], [0.6, 0.8]])
    (after,) = clipped(adaptive, [weight], [torch.tensor([[30.0, 40.0], [0.03, 0.04]])], 0.1)
    assert torch.allclose(after, torch.tensor([[0.3, 0.4], [0.03, 0.04]]))


def test_theory_knows_the_scale_free_points() -> None:
    assert slopes("relu", math.sqrt(2), 20) == pytest.approx((0, 0), abs=1e-3)
    assert slopes("linear", 0.5, 20) == pytest.approx((-1, -1), abs=1e-6)
    assert slopes("tanh", 1e-3, 5) == pytest.approx((math.log2(1e-3),) * 2, abs=1e-3)


def test_lyapunov_exponents_of_a_linear_regime_and_against_the_whole_jacobian() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = orthogonal(6, 0.8, generator).double()
    quiet = torch.zeros(50, 6, dtype=torch.float64)
    assert lyapunov_exponents(matrix, quiet, 6) == pytest.approx([math.log2(0.8)] * 6)
    inputs = torch.randn(30, 6, generator=generator).double()
    product, state = torch.eye(6, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
    for drive in inputs:

        def following(before: torch.Tensor, drive: torch.Tensor = drive) -> torch.Tensor:
            return torch.tanh(matrix @ before + drive)

        product = torch.autograd.functional.jacobian(following, state) @ product
        state = following(state)
    volume = sum(lyapunov_exponents(matrix, inputs, 6)) * len(inputs)
    assert volume == pytest.approx(float(torch.linalg.slogdet(product)[1]) / math.log(2))


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_time_steps_add_up_to_the_gradient_of_the_fused_layer(cell: str) -> None:
    from gainstage.lab.adding_task import Adder, draw

    torch.manual_seed(0)
    model = Adder(cell)
    inputs, sums = draw(4, 7, torch.Generator().manual_seed(0))
    torch.nn.functional.mse_loss(model(inputs), sums).backward()
    whole = model.recurrent.get_parameter("weight_hh_l0").grad
    assert whole is not None
    norm = float(whole.norm())
    found = by_time_step(model, cell, inputs, sums)
    count = whole.numel() ** 0.5
    parts = [2.0**bits * count for bits in found.grad_bits]
    assert max(parts) * 0.2 < norm <= sum(parts) * (1 + 1e-4)
    # The first time step starts from 0 and so adds nothing to the recurrent weights.
    assert found.grad_bits[-1] == -math.inf


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
