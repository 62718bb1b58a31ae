"""New initial weights from outside: the right scale, at the right moment, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gainstage
from gainstage.errors import ConfigError
from gainstage.graph.weights.activations import Activation
from gainstage.treat.model.initial_values import gain_of
from gainstage.treat.model.initialise import initialise_
from gainstage.treat.model.reinit import Reinit

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": F.gelu,
}
BOUND_BITS = {"linear": 0.05, "relu": 0.05, "tanh": 0.15, "gelu": 0.15}


def bits_per_layer(levels: list[float]) -> float:
    """Return the Theil–Sen slope."""
    values = np.array(levels)
    first, second = np.triu_indices(len(values), 1)
    return float(np.median((values[second] - values[first]) / (second - first)))


def level_bits(tensor: Tensor) -> float:
    return 0.5 * math.log2(float(tensor.detach().double().square().mean()))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("linear", "auto"), ("tanh", "auto"), ("relu", "auto"), ("gelu", "auto")),
        *(("linear", "xavier"), ("relu", "lsuv"), ("relu", "orthogonal")),
    ],
)
def test_a_chain_of_100_layers_keeps_its_level_forward_and_backward(
    name: str, kind: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    width, function = 256, FUNCTIONS[name]
    weights = [torch.randn(width, width, requires_grad=True) for _ in range(100)]
    biases = [torch.zeros(width, requires_grad=True) for _ in range(100)]
    sgd = torch.optim.SGD([*weights, *biases], lr=1e-30)

    def step() -> list[Tensor]:
        x, seen = torch.randn(64, width), []
        for weight, bias in zip(weights, biases, strict=True):
            z = x @ weight + bias
            z.retain_grad()
            seen.append(z)
            x = function(z)
        sgd.zero_grad()
        (x * torch.randn_like(x)).sum().backward()
        sgd.step()
        return seen

    with gainstage.watch(out=tmp_path / "run", treat=f"reinit:kind={kind}"):
        before, after = step(), step()
    first, last = before[-20].grad, before[-1].grad
    assert first is not None
    assert last is not None
    assert not first.isfinite().all() or level_bits(first) - level_bits(last) > 19
    forward = bits_per_layer([level_bits(z) for z in after])
    backward = bits_per_layer([level_bits(z.grad) for z in after if z.grad is not None])
    assert abs(forward) < BOUND_BITS[name]
    assert abs(backward) < BOUND_BITS[name]


def run(
    net: nn.Module,
    treat: str,
    folder: Path,
    *,
    x: Tensor,
    steps: int = 1,
    optimizer: torch.optim.Optimizer | None = None,
) -> Reinit:
    """Train for some steps under treatment; of the two losses that may be the module's output."""
    sgd = optimizer or torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.5)
    with gainstage.watch(net, sgd, out=folder, treat=treat) as watch:
        for _ in range(steps):
            sgd.zero_grad()
            out = net(x)
            out = out[0] if isinstance(out, tuple) else out
            out.pow(2).sum().backward()
            sgd.step()
        assert not watch._session.recorder.boundary.has_failed
        (treatment,) = watch._session.treatments
    assert isinstance(treatment, Reinit)
    return treatment


def test_the_first_step_is_left_out_and_the_second_counts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 2))
    with torch.no_grad():
        net[0].weight.mul_(1e25)  # its gradients overflow
        net[0].bias.fill_(3.0)
    x = torch.randn(8, 6)
    treatment = run(net, "reinit:kind=he", tmp_path / "one", x=x)
    assert treatment.touched == 1
    assert gainstage.load(tmp_path / "one").block().skipped.tolist() == [-1]
    assert float(net[0].weight.detach().std()) == pytest.approx(math.sqrt(2 / 6), rel=0.15)
    assert float(net[2].weight.detach().std()) == pytest.approx(math.sqrt(1 / 64), rel=0.2)
    assert not net[0].bias.any()
    assert all(not p.grad.any() for p in net.parameters() if p.grad is not None)
    before = net[2].weight.detach().clone()
    run(net, "reinit:only=nothing", tmp_path / "two", x=x)
    assert not torch.equal(net[2].weight, before)


def test_the_scripts_random_numbers_are_the_same_and_the_weights_repeatable(
    tmp_path: Path,
) -> None:
    drawn, weights = [], []
    for folder in ("one", "two"):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
        state = torch.get_rng_state()
        run(net, "reinit:kind=orthogonal", tmp_path / folder, x=torch.ones(4, 6), steps=2)
        assert torch.equal(torch.get_rng_state(), state)
        drawn.append(net[0].weight.detach().clone())
        weights.append(net[2].weight.detach().clone())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], weights[0])


def test_accumulated_gradients_are_those_of_the_new_weights_alone(tmp_path: Path) -> None:
    net = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        net.weight.fill_(1e6)
    sgd = torch.optim.SGD(net.parameters(), lr=1.0)
    with gainstage.watch(out=tmp_path / "run", treat="reinit:kind=identity"):
        for _ in range(3):
            net(torch.ones(1, 3)).sum().backward()
        sgd.step()
    # The identity of one row is [1, 0, 0], and two of the three backward calls count.
    assert net.weight.tolist() == [[-1.0, -2.0, -2.0]]


def test_a_gan_has_both_networks_rewritten_each_when_it_is_seen(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    for_first = torch.optim.Adam(first.parameters(), lr=1e-3)
    for_second = torch.optim.Adam(second.parameters(), lr=1e-3)
    with gainstage.watch(out=tmp_path / "run", treat="reinit:kind=identity") as watch:
        for _ in range(2):
            fake = first(torch.randn(8, 4))
            loss = second(fake.detach()).pow(2).mean()
            for_second.zero_grad()
            loss.backward()
            for_second.step()
            for_first.zero_grad()
            second(fake).pow(2).mean().backward()
            for_first.step()
        (treatment,) = watch._session.treatments
        assert isinstance(treatment, Reinit)
        assert treatment.rewritten.keys() == {"first.weight", "second.weight"}
    for net in (first, second):
        torch.testing.assert_close(net.weight, torch.eye(4), rtol=0, atol=0.01)


@pytest.mark.parametrize("overflow", [False, True])
def test_a_loss_scaler_does_not_keep_new_weights_away(overflow: bool, tmp_path: Path) -> None:
    net = nn.Linear(4, 4, bias=False)
    with torch.no_grad():
        net.weight.fill_(1e30 if overflow else 1.0)
    sgd = torch.optim.SGD(net.parameters(), lr=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    with gainstage.watch(out=tmp_path / "run", treat="reinit:kind=identity") as watch:
        for _ in range(2):
            sgd.zero_grad()
            scaler.scale(net(torch.ones(2, 4)).pow(2).sum()).backward()
            scaler.step(sgd)
            scaler.update()
        assert not watch._session.recorder.boundary.has_failed
    assert torch.equal(net.weight, torch.eye(4))
    assert scaler.get_scale() == 2.0**8


def test_a_script_without_optimizer_and_modules_gets_new_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first, second = torch.randn(40, 80, requires_grad=True), torch.randn(80, 1, requires_grad=True)
    with gainstage.watch(out=tmp_path / "run", treat="reinit:kind=he"):
        (torch.relu(torch.randn(8, 40) @ first) @ second).sum().backward()
    assert float(first.detach().std()) == pytest.approx(math.sqrt(2 / 40), rel=0.1)
    assert float(second.detach().std()) == pytest.approx(math.sqrt(1 / 80), rel=0.3)
    assert first.grad is not None
    assert not first.grad.any()


@pytest.mark.parametrize(("cell", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
@pytest.mark.parametrize("kind", ["auto", "identity"])
def test_recurrent_weights_are_orthogonal_gate_by_gate(
    cell: type[nn.RNNBase], gates: int, kind: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = cell(4, 6)
    with torch.no_grad():
        net.bias_hh_l0.fill_(0.5)
    treatment = run(net, f"reinit:kind={kind}", tmp_path / "run", x=torch.randn(5, 2, 4))
    assert treatment.rewritten == {
        "weight_ih_l0": "xavier",
        "weight_hh_l0": "identity" if kind == "identity" else "orthogonal",
    }
    for gate in net.weight_hh_l0.detach().split(6):
        torch.testing.assert_close(gate @ gate.T, torch.eye(6), rtol=0, atol=1e-5)
        assert torch.equal(gate, torch.eye(6)) == (kind == "identity")
    assert len(net.weight_hh_l0.detach().split(6)) == gates
    assert (net.bias_hh_l0 == 0.5).all()


@pytest.mark.parametrize("turned", [False, True])
def test_a_hand_written_cell_has_its_recurrent_weight_found(turned: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    into = torch.randn(3, 5).requires_grad_()
    within = torch.randn(5, 10 if turned else 5).requires_grad_()
    sgd = torch.optim.SGD([into, within], lr=0.0)
    with gainstage.watch(out=tmp_path / "run", treat="reinit") as watch:
        state = torch.zeros(2, 5)
        for _ in range(4):
            both = state @ within
            gate = torch.sigmoid(both[:, 5:]) if turned else 1.0
            state = gate * torch.tanh(torch.randn(2, 3) @ into + both[:, :5])
        state.sum().backward()
        sgd.step()
        assert watch._session.treatments[0].rewritten["within"] == "orthogonal"  # type: ignore[attr-defined]
    for gate in within.detach().split(5, dim=1):
        torch.testing.assert_close(gate @ gate.T, torch.eye(5), rtol=0, atol=1e-5)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(16, 64), nn.Linear(64, 16)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.relu(self.up(x)))


def test_residual_branches_end_scaled_by_their_number(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 16), *(Block() for _ in range(8)))
    run(net, "reinit:kind=residual", tmp_path / "run", x=torch.randn(4, 3))
    for block in net[1:]:
        gain = float(block.down.weight.detach().norm()) / math.sqrt(16)  # type: ignore[union-attr]
        assert gain == pytest.approx(1 / math.sqrt(8), rel=1e-4)
        std = float(block.up.weight.detach().std())  # type: ignore[union-attr]
        assert std == pytest.approx(math.sqrt(2 / 16), rel=0.1)


def test_lsuv_measures_unit_variance_in_the_scripts_own_pass(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.GELU(), nn.Flatten(), nn.Linear(8 * 36, 20)),
        *(nn.Softplus(), nn.Linear(20, 5)),
    )
    x = torch.randn(64, 3, 8, 8) * 7
    sgd = torch.optim.SGD(net.parameters(), lr=0.0)
    run(net, "reinit:kind=lsuv", tmp_path / "run", x=x, steps=2, optimizer=sgd)
    for layer in net:
        x = layer(x).detach()
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            assert float(x.square().mean().sqrt()) == pytest.approx(1.0, abs=0.02)


def test_only_a_pattern_is_rewritten_and_data_with_a_gradient_never(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    before = net[0].weight.detach().clone()
    x = torch.full((4, 4), 3.0, requires_grad=True)
    sgd = torch.optim.SGD(net.parameters(), lr=0.0)
    treatment = run(
        net, "reinit:kind=identity,only=2.*", tmp_path / "run", x=x, optimizer=sgd, steps=2
    )
    assert list(treatment.rewritten) == ["2.weight"]
    assert torch.equal(net[0].weight, before)
    assert (x == 3.0).all()
    missed = run(net, "reinit:only=nosuch", tmp_path / "none", x=x, optimizer=sgd)
    assert missed.notes == ["reinit rewrote nothing: no weight seen matches 'nosuch'"]


def test_statistics_of_batch_norm_do_not_keep_the_old_weights(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
    with torch.no_grad():
        net[0].weight.fill_(1e30)
    run(net, "reinit", tmp_path / "run", x=torch.randn(16, 4))
    assert torch.equal(net[1].running_var, torch.ones(4))  # type: ignore[arg-type]


def test_a_graph_retained_from_before_may_be_walked_again(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
    sgd = torch.optim.SGD(net.parameters(), lr=0.0)
    with gainstage.watch(out=tmp_path / "run", treat="reinit") as watch:
        loss = net(torch.randn(8, 4)).pow(2).sum()
        loss.backward(retain_graph=True)
        loss.backward()
        sgd.step()
        assert not watch._session.recorder.boundary.has_failed
    assert all(not p.grad.any() for p in net.parameters() if p.grad is not None)
    assert watch.run.block().skipped.tolist() == [-1]


def test_gains_of_activations() -> None:
    assert gain_of(Activation("relu")) == pytest.approx(math.sqrt(2))
    assert gain_of(Activation("leaky_relu", 0.5)) == pytest.approx(math.sqrt(1.6))
    assert gain_of(Activation("tanh")) == gain_of(Activation("linear")) == 1.0
    torch.manual_seed(0)
    z = torch.randn(2_000_000)
    for name, function in [("gelu", F.gelu), ("silu", F.silu), ("selu", F.selu), ("mish", F.mish)]:
        mean_square = float(function(z).square().mean())
        assert gain_of(Activation(name)) == pytest.approx(mean_square**-0.5, rel=0.01)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("auto", "he for relu"),
        ("he", "he for relu"),
        ("xavier", "xavier for relu"),
        ("orthogonal", "orthogonal for relu"),
        ("identity", "identity for relu"),
        ("residual", "he for relu"),
        ("lsuv", "lsuv for relu"),
    ],
)
def test_a_users_own_model_is_initialised_by_one_call(kind: str, said: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.LayerNorm(64), nn.Linear(64, 4))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(1e20)
    state = torch.get_rng_state()
    given = initialise_(net, torch.randn(32, 16, generator=torch.Generator()), kind=kind)
    assert torch.equal(torch.get_rng_state(), state)
    assert list(given) == ["0.weight", "3.weight"]
    assert given["0.weight"].startswith(said)
    weights = [net[0].weight, net[3].weight]
    assert all(float(weight.detach().abs().max()) < 10 for weight in weights)
    assert not net[0].bias.any()
    assert bool((net[2].weight == 1e20).all())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_the_same_seed_gives_the_same_weights_and_half_a_model_may_be_named() -> None:
    nets = [nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8)) for _ in range(3)]
    kept = nets[2][0].weight.detach().clone()
    x = torch.randn(4, 8)
    for net, seed, only in zip(nets, (1, 1, 2), ("*", "*", "2.*"), strict=True):
        initialise_(net, x, seed=seed, only=only)
    assert torch.equal(nets[0][2].weight, nets[1][2].weight)
    assert not torch.equal(nets[0][2].weight, nets[2][2].weight)
    assert torch.equal(nets[2][0].weight, kept)


def test_the_identity_keeps_what_a_relu_has_let_pass() -> None:
    net = nn.Sequential(*[m for _ in range(50) for m in (nn.Linear(32, 32), nn.ReLU())])
    x = torch.rand(8, 32)
    initialise_(net, x, kind="identity")
    torch.testing.assert_close(net(x), x)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "nice"}, "kind must be one of auto, he, xavier"),
        ({"mode": "fan"}, "mode must be one of fan_in, fan_out"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
    ],
)
def test_a_recipe_that_is_none_says_which_there_are(options: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        initialise_(nn.Linear(2, 2), torch.ones(1, 2), **options)  # type: ignore[arg-type]
