"""Initialisations are recognised from their values, and χ is the theory's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gainstage.analysis.initial_scale import activation_gain, initial_scale, mean_field_chi
from gainstage.errors import ConfigError

RULES: list[tuple[str, Callable[[Tensor], Any]]] = [
    ("standard_normal", nn.init.normal_),
    ("he_normal", nn.init.kaiming_normal_),
    ("he_normal_fan_out", lambda w: nn.init.kaiming_normal_(w, mode="fan_out")),
    ("xavier_normal", nn.init.xavier_normal_),
    ("lecun_normal", lambda w: nn.init.kaiming_normal_(w, nonlinearity="linear")),
    ("he_uniform", nn.init.kaiming_uniform_),
    ("xavier_uniform", nn.init.xavier_uniform_),
    ("torch_linear", lambda w: nn.init.kaiming_uniform_(w, a=math.sqrt(5))),
    ("standard_uniform", nn.init.uniform_),
    ("orthogonal", nn.init.orthogonal_),
    ("orthogonal_scaled", lambda w: nn.init.orthogonal_(w, 2.0)),
    ("zeros", nn.init.zeros_),
    ("constant", nn.init.ones_),
]


@pytest.mark.parametrize("shape", [(40, 100), (280, 50), (28, 8, 3, 3)])
@pytest.mark.parametrize(("rule", "fill"), RULES, ids=[rule for rule, _ in RULES])
def test_every_rule_is_named(rule: str, fill: Callable[[Tensor], Any], shape: Any) -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        weight = torch.empty(shape)
        fill(weight)
        assert initial_scale(weight).rules == (rule,), seed


def test_torchs_own_layers() -> None:
    torch.manual_seed(0)
    assert initial_scale(nn.Linear(64, 32).weight).rules == ("torch_linear",)
    assert "torch_linear" in initial_scale(nn.Conv2d(8, 40, 3).weight).rules
    assert "torch_lstm" in initial_scale(nn.LSTM(10, 30).weight_ih_l0).rules
    assert "torch_gru" in initial_scale(nn.GRU(10, 30).weight_ih_l0).rules
    assert initial_scale(nn.Embedding(50, 30).weight).rules == ("standard_normal",)


def test_rules_that_agree_are_all_named() -> None:
    torch.manual_seed(0)
    weight = nn.init.xavier_normal_(torch.empty(50, 50))
    assert initial_scale(weight).rules == ("xavier_normal", "lecun_normal")


def test_what_fits_no_rule_or_is_too_small_says_so() -> None:
    torch.manual_seed(0)
    assert initial_scale(0.02 * torch.randn(64, 64)).rules == ()
    assert initial_scale(0.02 * torch.randn(64, 64)).shape == "normal"
    assert initial_scale(torch.randn(64, 64) ** 3).shape == "other"
    assert initial_scale(torch.randn(3, 3)).shape == "unknown"
    assert initial_scale(torch.tensor([[1.0, math.inf]])).shape == "other"
    assert math.isnan(initial_scale(torch.tensor([[1.0, math.nan]])).excess_bits)
    with pytest.raises(ConfigError, match="two dimensions"):
        initial_scale(torch.randn(3))
    with pytest.raises(ConfigError, match="got 'swoosh'"):
        initial_scale(torch.randn(3, 3), "swoosh")


def test_the_standard_normal_is_too_much_by_half_the_logarithm_of_the_width() -> None:
    torch.manual_seed(0)
    found = initial_scale(torch.randn(512, 512), "linear")
    assert found.excess_bits == pytest.approx(0.5 * math.log2(512), abs=0.01)
    assert initial_scale(torch.zeros(4, 4)).excess_bits == -math.inf


@given(st.integers(-20, 20), st.integers(0, 100))
def test_excess_is_in_bits(exponent: int, seed: int) -> None:
    weight = torch.randn(8, 30, generator=torch.Generator().manual_seed(seed))
    one, other = initial_scale(weight), initial_scale(weight * 2.0**exponent)
    assert other.excess_bits == pytest.approx(one.excess_bits + exponent, abs=1e-6)
    assert other.shape == one.shape


def test_gains_of_activations() -> None:
    assert activation_gain("linear") == pytest.approx(1.0, rel=1e-6)
    assert activation_gain("relu") == pytest.approx(math.sqrt(2), rel=1e-6)
    assert activation_gain("leaky_relu") == pytest.approx(math.sqrt(2 / 1.0001), rel=1e-6)
    assert activation_gain("selu") == pytest.approx(1.0, abs=1e-3)
    assert activation_gain("tanh") == pytest.approx(1.5925, rel=1e-3)


@pytest.mark.parametrize(("scale", "chi"), [(1.0, 0.5), (math.sqrt(2), 1.0), (2.0, 2.0)])
def test_chi_of_a_relu_layer_is_half_the_variance(scale: float, chi: float) -> None:
    torch.manual_seed(0)
    w = scale * torch.randn(400, 400) / 20
    inputs = torch.randn(64, 400)
    before = torch.get_rng_state()
    found = mean_field_chi(lambda x: torch.relu(x @ w.t()), inputs)
    assert torch.equal(before, torch.get_rng_state())
    assert found == pytest.approx(chi, rel=0.05)


def test_chi_of_a_rectangular_layer_counts_outputs() -> None:
    torch.manual_seed(0)
    w = torch.randn(900, 100) / 10
    assert mean_field_chi(lambda x: x @ w.t(), torch.randn(64, 100)) == pytest.approx(1, rel=0.05)
    exact = (w.square().sum() / 900).item()
    many = [mean_field_chi(lambda x: x @ w.t(), torch.randn(64, 100), seed=s) for s in range(20)]
    assert sum(many) / 20 == pytest.approx(exact, rel=0.01)
    assert mean_field_chi(lambda x: torch.ones(3, 2), torch.randn(3, 2)) == 0.0
