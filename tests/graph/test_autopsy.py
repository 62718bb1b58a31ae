"""The first wrong operation is named on the first culprit, forward and backward."""

from __future__ import annotations

import json
import traceback
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gainstage.graph.autopsy.batch import batch_of
from gainstage.graph.autopsy.find import Culprit, find_forward
from gainstage.graph.autopsy.replay import rederive, reexecute
from gainstage.graph.autopsy.singular_derivatives import find_backward, hold, singular
from gainstage.graph.nodes.walk import walk
from graph.faults import BACKWARD, FORWARD, HEALTHY, INF, NAN, SAMPLE, Case, given


class Scale(nn.Module):
    """The smallest network: one weight a feature, all 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        """Return the data, now tracked by autograd."""
        return x * self.weight


def backward_culprit(loss: Tensor, model: nn.Module) -> Culprit | None:
    """Run a backward call as the recorder would, and judge its gradients."""
    nodes = walk([loss])
    held = hold(singular(nodes), nodes)
    loss.backward()
    return find_backward(held, pattern(model))


def pattern(model: nn.Module) -> dict[int, bool]:
    """Return which gradients are finite."""
    return {
        id(p): bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None
    }


def check(culprit: Culprit | None, case: Case) -> Culprit:
    """Assert what a case must say, and that it can be written as JSON."""
    assert culprit is not None
    assert (culprit.op, culprit.kind) == (case.op, case.kind), culprit.text
    assert case.text in culprit.text
    assert culprit.samples == case.samples
    json.dumps({"evidence": culprit.evidence.as_json(), "settings": culprit.settings})
    return culprit


@pytest.mark.parametrize("name", FORWARD)
def test_a_forward_fault_is_named(name: str) -> None:
    case = FORWARD[name]
    loss = case.loss(Scale()(given(case.value)))
    assert not torch.isfinite(loss)
    culprit = check(find_forward([loss]), case)
    assert not culprit.is_backward
    assert culprit.after_last_parameter
    assert culprit.chain[0] == culprit.node
    assert culprit.chain[-1] == loss.grad_fn


@pytest.mark.parametrize("name", BACKWARD)
def test_a_backward_fault_is_named(name: str) -> None:
    case, model = BACKWARD[name], Scale()
    loss = case.loss(model(given(case.value)))
    assert torch.isfinite(loss)
    culprit = check(backward_culprit(loss, model), case)
    assert pattern(model) == {id(model.weight): False}
    assert culprit.is_backward
    assert culprit.chain[0] == culprit.node
    assert culprit.chain[-1].variable is model.weight


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_step_has_no_fault(name: str) -> None:
    value, make = HEALTHY[name]
    model = Scale()
    loss = make(model(given(value)))
    assert torch.isfinite(loss)
    assert find_forward([loss]) is None
    assert backward_culprit(loss, model) is None
    assert all(pattern(model).values())


def test_forty_operations_are_covered() -> None:
    assert len({case.op for case in [*FORWARD.values(), *BACKWARD.values()]}) >= 35
    assert len(FORWARD) + len(BACKWARD) >= 60


@pytest.mark.parametrize("name", ["log", "softmax", "matmul in float16", "norm", "exp"])
def test_the_culprit_can_be_run_again(name: str) -> None:
    case = FORWARD[name]
    culprit = find_forward([case.loss(Scale()(given(case.value)))])
    assert culprit is not None
    settings = json.loads(json.dumps(culprit.settings))
    if "self" not in culprit.inputs:  # a mask's fill value is not saved
        return
    again = reexecute(settings["kind"], culprit.inputs, settings)
    assert culprit.result is not None
    assert torch.equal(again.nan_to_num(1.5), culprit.result.nan_to_num(1.5))


def test_the_derivative_can_be_run_again() -> None:
    model = Scale()
    culprit = backward_culprit(model(given(0.0)).sqrt().sum(), model)
    assert culprit is not None
    settings = json.loads(json.dumps(culprit.settings))
    gradients = rederive(settings["kind"], culprit.inputs, settings)
    assert torch.isinf(gradients["self"][SAMPLE, 1])
    assert int(torch.isinf(gradients["self"]).sum()) == 1


def test_the_line_of_the_culprit_is_that_of_the_operation() -> None:
    with torch.autograd.set_detect_anomaly(True, check_nan=False):
        x = Scale()(given(0.0))
        y = x.log()
        loss = (y * 0.5).sum()
    culprit = find_forward([loss])
    assert culprit is not None
    assert "y = x.log()" in culprit.node.metadata["traceback_"][-1]
    assert traceback.extract_stack()[-1].name in culprit.node.metadata["traceback_"][-1]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(3, 4)
        self.second = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.gelu(self.first(x)))


def test_a_bad_input_is_named_with_its_sample() -> None:
    culprit = find_forward([Net()(given(NAN)).square().mean()])
    assert culprit is not None
    assert (culprit.op, culprit.kind, culprit.evidence.operand) == ("addmm", "input", "mat1")
    assert culprit.samples == (SAMPLE,)
    assert culprit.evidence.first == (SAMPLE, 1)
    assert "holds NaN in 1 of 15 elements" in culprit.text
    assert not culprit.after_last_parameter


@pytest.mark.parametrize(
    "loss",
    [
        lambda y, t: F.mse_loss(y, t),
        lambda y, t: F.smooth_l1_loss(y, t),
        lambda y, t: (y - t).abs().mean(),
        lambda y, t: ((y - t) ** 2).mean(),
        lambda y, t: F.binary_cross_entropy_with_logits(y, t),
    ],
)
@pytest.mark.parametrize("value", [NAN, INF])
def test_a_bad_target_is_told_from_a_bad_input(loss: Any, value: float) -> None:
    target = torch.rand(5, 2)
    target[SAMPLE, 0] = value
    culprit = find_forward([loss(Net()(given(0.5)), target)])
    assert culprit is not None
    assert culprit.kind == "target"
    assert culprit.samples == (SAMPLE,)
    assert culprit.after_last_parameter


def test_a_bad_weight_is_a_bad_parameter() -> None:
    net = Net()
    with torch.no_grad():
        net.second.weight[0, 0] = NAN
    culprit = find_forward([net(given(0.5)).mean()])
    assert culprit is not None
    assert (culprit.kind, culprit.op) == ("parameter", "leaf")
    assert culprit.node.variable is net.second.weight
    assert "in 1 of 8 elements" in culprit.text


def test_poisoned_running_statistics_are_named() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()
    assert isinstance(net[1].running_mean, Tensor)
    net[1].running_mean[2] = NAN
    culprit = find_forward([net(given(0.5)).mean()])
    assert culprit is not None
    assert (culprit.op, culprit.kind, culprit.evidence.operand) == (
        "batch_norm",
        "constant",
        "running_mean",
    )


@pytest.mark.parametrize("value", [INF, NAN])
def test_in_training_an_input_and_not_the_statistics_it_has_poisoned(value: float) -> None:
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 4))
    culprit = find_forward([net(given(value)).mean()])
    assert culprit is not None
    assert (culprit.op, culprit.kind, culprit.evidence.operand) == ("batch_norm", "input", "input")
    assert culprit.samples == (SAMPLE,)


def test_an_overflow_in_a_hidden_layer_is_forward_and_not_loss() -> None:
    net = Net()
    culprit = find_forward([net.second(net.first(given(0.5)).mul(1e4).exp()).mean()])
    assert culprit is not None
    assert (culprit.op, culprit.kind) == ("exp", "overflow")
    assert not culprit.after_last_parameter


def test_a_bad_constant_is_named() -> None:
    culprit = find_forward([(Net()(given(0.5)) * INF).sum()])
    assert culprit is not None
    assert (culprit.op, culprit.kind) == ("mul", "constant")


def test_weight_decay_does_not_make_a_loss_look_like_a_layer() -> None:
    net = Net()
    decay = sum((p**2).sum() for p in net.parameters())
    culprit = find_forward([net(given(0.5)).mul(0).log().mean() + 1e-3 * decay])
    assert culprit is not None
    assert culprit.op == "log"
    assert culprit.after_last_parameter


def test_samples_are_found_behind_flattened_time() -> None:
    x = torch.rand(5, 7, 3)
    x[2, 4, 1] = NAN
    net = Net()
    culprit = find_forward([net(x).square().mean()])
    assert culprit is not None
    assert (culprit.kind, culprit.samples, culprit.time_step) == ("input", (2,), 4)


def test_samples_are_found_in_flattened_targets() -> None:
    logits = Net()(torch.rand(5, 7, 3)).reshape(35, 2)
    target = torch.zeros(35, dtype=torch.long)
    masked = logits.masked_fill((torch.arange(35) == 2 * 7 + 4).unsqueeze(1), -INF)
    culprit = find_forward([F.cross_entropy(masked, target)])
    assert culprit is not None
    assert (culprit.op, culprit.samples) == ("log_softmax", (2,))


def test_time_first_data_are_understood() -> None:
    x = torch.rand(7, 5, 3)
    x[4, 2, 1] = NAN
    y = Net()(x).mean(0)
    culprit = find_forward([F.cross_entropy(y, torch.zeros(5, dtype=torch.long))])
    assert culprit is not None
    assert (culprit.kind, culprit.samples, culprit.time_step) == ("input", (2,), 4)


def test_samples_are_not_guessed_where_sizes_do_not_tell() -> None:
    x = torch.rand(6, 4, 3)
    x[0, 0, 0] = NAN
    y = Net()(x).mean()
    other = (Net()(torch.rand(9, 3))).mean()
    culprit = find_forward([y + other])
    assert culprit is not None
    assert culprit.samples is None


def test_rows_of_a_weight_are_not_samples() -> None:
    net = nn.Linear(3, 5)
    with torch.no_grad():
        net.weight[1] = 0
    scaled = net.weight / net.weight.norm(dim=1, keepdim=True)
    culprit = find_forward([F.linear(given(0.5), scaled).mean()])
    assert culprit is not None
    assert (culprit.op, culprit.kind, culprit.samples) == ("div", "domain", None)
    assert culprit.evidence.batch_size == 5


def test_the_batch_is_listed_by_argument() -> None:
    x, target = torch.rand(5, 3), torch.tensor([0, 1, 0, 1, 1])
    found = batch_of(walk([F.cross_entropy(Net()(x), target)]))
    assert set(found) == {"addmm.mat1", "nll_loss.target"}
    assert found["addmm.mat1"].data_ptr() == x.data_ptr()
    assert torch.equal(found["nll_loss.target"], target)


def test_the_nearest_of_two_singular_nodes_is_named() -> None:
    model = Scale()
    x = model(given(0.0))
    culprit = backward_culprit((x.sqrt() * 1.0).sqrt().sum(), model)
    assert culprit is not None
    assert culprit.op == "sqrt"
    assert len(culprit.chain) > 3  # the outer one, through which the inner one got its inf


def test_a_singular_node_that_no_bad_gradient_hangs_on_is_left_alone() -> None:
    first, second = Scale(), Scale()
    loss = first(given(0.0)).sqrt().sum() + second(given(0.5)).sum()
    nodes = walk([loss])
    held = hold(singular(nodes), nodes)
    loss.backward()
    both = {**pattern(first), **pattern(second)}
    assert both == {id(first.weight): False, id(second.weight): True}
    assert find_backward(held, {id(first.weight): True, id(second.weight): False}) is None
    culprit = find_backward(held, both)
    assert culprit is not None
    assert culprit.op == "sqrt"


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda x: x / 2, 0),
        (lambda x: x / x, 1),
        (lambda x: x**3, 0),
        (lambda x: x**1, 0),
        (lambda x: x**0.5, 1),
        (lambda x: x**-1, 1),
        (lambda x: F.layer_norm(x, (3,)), 0),
        (lambda x: x.softmax(1), 0),
        (lambda x: x.masked_fill(x > 9, -INF).softmax(1), 1),
        (lambda x: x.norm(), 0),
        (lambda x: x.relu().tanh(), 0),
        (lambda x: x.logit(1e-6), 0),
    ],
)
def test_only_what_can_be_singular_is_held(make: Any, count: int) -> None:
    assert len(singular(walk([make(Scale()(given(0.5))).sum()]))) == count


def test_holding_copies_nothing_and_states_its_bytes() -> None:
    x = Scale()(given(0.5)).exp()
    loss = x.log().sum()
    nodes = walk([loss])
    held = hold(singular(nodes), nodes)
    assert held.bytes == x.nbytes
    pointers = {
        t.data_ptr() for e in held.entries for t in e.operands.values() if isinstance(t, Tensor)
    }
    assert pointers == {x.data_ptr()}
