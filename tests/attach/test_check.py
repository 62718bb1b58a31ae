"""`gainstage.check`: the ledger of networks whose gains are known."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import gainstage
from gainstage.errors import ConfigError


def chain(weight: float, layers: int, width: int = 4) -> tuple[list[Tensor], gainstage.GainProfile]:
    """Check the linear chain: every layer is the identity times a weight."""
    weights = [(weight * torch.eye(width)).requires_grad_() for _ in range(layers)]

    def loss_fn() -> Tensor:
        h = torch.ones(1, width)
        for each in weights:
            h = h @ each
        return h.sum()

    return weights, gainstage.check(loss_fn)


def test_the_ledger_of_the_textbook_chain() -> None:
    weights, profile = chain(2.0, 5)
    assert [round(each.forward_bits, 5) for each in profile.layers] == [1, 2, 3, 4, 5]
    assert [round(each.delta_bits, 5) for each in profile.layers] == [4, 3, 2, 1, 0]
    assert [each.name for each in profile.layers] == [f"weights[{i}]" for i in range(5)]
    assert profile.forward_slope_bits == pytest.approx(1.0)
    assert profile.backward_slope_bits == pytest.approx(1.0)
    assert profile.crossover == pytest.approx(0.5)
    assert all(each.grad is None for each in weights)


@settings(max_examples=15)
@given(
    bits=st.floats(-1.5, 1.5, allow_nan=False).filter(lambda b: abs(b) > 0.01),
    layers=st.integers(4, 12),
)
def test_slope_crossover_and_depth_limit_are_those_of_the_chain(bits: float, layers: int) -> None:
    _, profile = chain(2.0**bits, layers)
    assert profile.forward_slope_bits == pytest.approx(bits, abs=1e-4)
    assert profile.backward_slope_bits == pytest.approx(bits, abs=1e-4)
    assert profile.crossover == pytest.approx(2.0**-bits, rel=1e-3)
    half = next(each for each in profile.limits if each.dtype == "float16")
    if bits < 0:
        assert (half.way, half.layers) == (None, math.inf)
        return
    # The n-th output is 2^(n bits): beyond 65504 at the first n past 16 bits.
    first = math.floor(math.log2(65504) / bits) + 1
    assert half.layers == pytest.approx(first, abs=1)
    assert (half.layer is not None) == (half.layers <= layers)


def test_a_deep_n01_network_is_trouble_that_names_its_layer() -> None:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(8):
        layers += [nn.Linear(64, 64), nn.ReLU()]
    model = nn.Sequential(*layers)
    for each in model:
        if isinstance(each, nn.Linear):
            nn.init.normal_(each.weight)
    x = torch.randn(16, 64)
    profile = gainstage.check(lambda: model(x).square().mean())
    assert any("bits a layer over 8 layers" in each for each in profile.troubles)
    half = next(each for each in profile.limits if each.dtype == "float16")
    assert half.layer in {each.name for each in profile.layers}
    first = profile.weights[0]
    assert (first.name, first.rules[0], first.activation) == ("0.weight", "standard_normal", "relu")
    assert first.expected_rms == pytest.approx(math.sqrt(2 / 64), rel=1e-3)
    assert first.excess_bits == pytest.approx(2.5, abs=0.1)
    said = str(profile)
    assert "TROUBLE" in said
    assert "N(0,1)" in said
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize(
    ("rule", "init", "activation"),
    [
        ("he_normal", lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"), nn.ReLU()),
        ("xavier_uniform", nn.init.xavier_uniform_, nn.Tanh()),
        ("orthogonal", nn.init.orthogonal_, nn.Sigmoid()),
        ("torch_linear", None, nn.Mish()),
    ],
)
def test_the_initialisation_is_named(rule: str, init: object, activation: nn.Module) -> None:
    torch.manual_seed(1)
    layer = nn.Linear(96, 48)
    if callable(init):
        init(layer.weight)
    model = nn.Sequential(layer, activation, nn.Linear(48, 8))
    x = torch.randn(8, 96)
    (found, *_) = gainstage.check(lambda: model(x).square().mean()).weights
    assert rule in found.rules
    assert found.expected_rms is not None


def test_sharpness_is_judged_against_the_learning_rate_of_sgd() -> None:
    w = torch.tensor([1.0, 1.0], requires_grad=True)
    scales = torch.tensor([10.0, 1.0])

    def loss_fn() -> Tensor:
        return 0.5 * (scales * w.square()).sum()

    fine = gainstage.check(loss_fn, torch.optim.SGD([w], lr=0.19))
    assert fine.sharpness.largest == pytest.approx(10.0)
    assert fine.sharpness.max_stable_lr == pytest.approx(0.2)
    assert not fine.troubles
    far = gainstage.check(loss_fn, torch.optim.SGD([w], lr=0.9, momentum=0.5))
    assert far.sharpness.max_stable_lr == pytest.approx(0.3)
    assert "learning rate 0.9 is 3.0 times what SGD bears" in far.troubles[0]
    nesterov = gainstage.check(
        loss_fn, torch.optim.SGD([w], lr=0.01, momentum=0.5, nesterov=True)
    ).sharpness
    assert nesterov.max_stable_lr == pytest.approx(0.15)
    adam = gainstage.check(loss_fn, torch.optim.Adam([w], lr=0.9)).sharpness
    assert adam.max_stable_lr is None
    assert "no second moments" in (adam.note or "")


def test_the_limit_of_nesterov_is_where_it_diverges() -> None:
    for lr, grows in ((0.148, False), (0.152, True)):
        w = torch.tensor([1.0], requires_grad=True)
        optimizer = torch.optim.SGD([w], lr=lr, momentum=0.5, nesterov=True)
        for _ in range(400):
            optimizer.zero_grad()
            (5.0 * w.square()).sum().backward()
            optimizer.step()
        assert (abs(w.item()) > 1.0) == grows


def test_what_has_no_second_derivative_is_said_in_words() -> None:
    query = torch.randn(1, 1, 4, 8, requires_grad=True)
    profile = gainstage.check(
        lambda: nn.functional.scaled_dot_product_attention(query, query, query).sum()
    )
    assert profile.sharpness.largest is None
    assert (profile.sharpness.note or "").startswith("not measured: ")
    assert "not measured" in str(profile)


@pytest.mark.parametrize(
    ("batch", "is_trouble"), [(4, True), (8, False)], ids=["batch 4", "batch 8"]
)
def test_batch_norm_of_few_values_is_trouble(batch: int, is_trouble: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
    x = torch.randn(batch, 8)
    profile = gainstage.check(lambda: model(x).square().mean())
    (norm,) = profile.norms
    assert (norm.module, norm.batch, norm.values) == ("1", batch, batch)
    assert any("statistics of only 4 values" in each for each in profile.troubles) == is_trouble


def test_positions_count_as_values_of_batch_norm_and_evaluation_counts_none() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    x = torch.randn(2, 1, 8, 8)
    (norm,) = gainstage.check(lambda: model(x).sum()).norms
    assert (norm.batch, norm.values) == (2, 72)
    model.eval()
    assert gainstage.check(lambda: model(x).sum()).norms == ()


def test_a_recurrence_has_its_time_gain_and_horizon() -> None:
    weight = (0.5 * torch.eye(3)).requires_grad_()

    def loss_fn() -> Tensor:
        h = torch.ones(1, 3)
        for _ in range(20):
            h = h @ weight + 1.0
        return h.sum()

    (gain,) = gainstage.check(loss_fn).recurrences
    assert gain.time_steps == 20
    assert gain.slope_bits == pytest.approx(-1.0)
    assert gain.memory_horizon == pytest.approx(24.0)


def test_a_growing_recurrence_says_which_length_overflows() -> None:
    weight = (2.0 * torch.eye(3)).requires_grad_()

    def loss_fn() -> Tensor:
        h = torch.ones(1, 3)
        for _ in range(12):
            h = h @ weight + 1.0
        return h.sum()

    profile = gainstage.check(loss_fn)
    (gain,) = profile.recurrences
    assert gain.slope_bits == pytest.approx(1.0)
    # The delta of the first state of T is 2^(T - 1).
    assert gain.time_steps_to_overflow["float16"] == pytest.approx(17, abs=0.1)
    assert gain.time_steps_to_overflow["float32"] == pytest.approx(129, abs=0.1)
    assert "1.00 bits a time step" in " ".join(profile.troubles)


def test_a_loss_that_is_not_finite_still_has_levels() -> None:
    _, profile = chain(2.0**30, 5)
    assert profile.loss == math.inf
    assert any("loss became inf" in each for each in profile.troubles)
    assert [each.forward_bits for each in profile.layers][:4] == [30, 60, 90, 120]
    single = next(each for each in profile.limits if each.dtype == "float32")
    assert (single.layer, single.layers) == ("weights[4]", 5)


def test_names_are_escaped_in_a_notebook() -> None:
    weights = {"<b>": torch.eye(2, requires_grad=True)}
    page = gainstage.check(lambda: (torch.ones(1, 2) @ weights["<b>"]).sum())._repr_html_()
    assert "<b>'" not in page
    assert "weights[&#x27;&lt;b&gt;&#x27;]" in page


@pytest.mark.parametrize(
    ("loss_fn", "said"),
    [
        (lambda: 1.0, "must return a tensor of one element, got float"),
        (lambda: torch.ones(3), r"got \(3,\)"),
        (lambda: torch.tensor(1.0), "depends on no parameter"),
    ],
)
def test_what_is_no_loss_is_refused(loss_fn: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        gainstage.check(loss_fn)  # pyright: ignore[reportArgumentType]
    assert not torch.is_anomaly_enabled()


def test_checking_leaves_torch_as_it_was() -> None:
    before = torch.autograd.backward, torch.autograd.grad
    chain(1.0, 4)
    assert (torch.autograd.backward, torch.autograd.grad) == before
    assert not torch.is_anomaly_enabled()
    with pytest.raises(ZeroDivisionError):
        gainstage.check(lambda: torch.ones(1) / (1 // 0))
    assert not torch.is_anomaly_enabled()
