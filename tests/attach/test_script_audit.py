"""What is seen of the script's own calls: whose norm it clips by, what batch norm sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

import gainstage
from gainstage.attach.audit.loss_reduction import loss_made
from gainstage.detect.symptom_json import message_of
from gainstage.facts.symptom import Symptom

Clip = Callable[[nn.Sequential], object]


def symptoms(tmp_path: Path, clip: Clip, *, batch: int = 16, norm: bool = False) -> list[Symptom]:
    torch.manual_seed(0)
    layers = [nn.Linear(4, 8), nn.BatchNorm1d(8) if norm else nn.Tanh(), nn.Linear(8, 1)]
    model = nn.Sequential(*layers)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with gainstage.watch(model, optimizer, out=tmp_path / "run") as watch:
        for _ in range(6):
            optimizer.zero_grad()
            model(torch.randn(batch, 4)).square().mean().backward()
            clip(model)
            optimizer.step()
    return list(watch.findings.symptoms)


def named(found: list[Symptom], name: str) -> list[Symptom]:
    return [each for each in found if each.symptom == name]


def in_two_calls(model: nn.Sequential) -> None:
    clip_grad_norm_(model[0].parameters(), 1.0)
    clip_grad_norm_(model[2].parameters(), 1.0)


WHOLE: dict[str, Clip] = {
    "at once": lambda model: clip_grad_norm_(model.parameters(), 1.0),
    "in two calls": in_two_calls,
    "not at all": lambda model: None,
}
WRONG: dict[str, tuple[Clip, str, float]] = {
    "a part": (lambda m: clip_grad_norm_(m[2].parameters(), 1.0), "2 of the 4 tensors", 1.0),
    "twice": (
        lambda m: clip_grad_norm_([*m.parameters(), *m.parameters()], 1.0),
        "1.41 times",
        2**0.5,
    ),
}


@pytest.mark.parametrize("how", WHOLE)
def test_a_clip_of_all_gradients_has_the_true_norm(how: str, tmp_path: Path) -> None:
    assert not named(symptoms(tmp_path, WHOLE[how]), "norm-mismatch")


@pytest.mark.parametrize("how", WRONG)
def test_a_clip_by_another_norm_is_told_with_the_ratio(how: str, tmp_path: Path) -> None:
    clip, words, ratio = WRONG[how]
    (found,) = named(symptoms(tmp_path, clip), "norm-mismatch")
    assert found.severity == "info"  # a script may mean it
    assert words in message_of(found)
    assert found.evidence.ratio == pytest.approx(ratio, rel=1e-6)


def test_a_clip_of_one_optimizer_of_two_leaves_nothing_out(tmp_path: Path) -> None:
    nets = [nn.Linear(3, 1), nn.Linear(3, 1)]
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.01) for net in nets]
    with gainstage.watch(out=tmp_path / "run") as watch:
        for _ in range(6):
            for net, optimizer in zip(nets, optimizers, strict=True):
                optimizer.zero_grad()
                net(torch.randn(8, 3)).square().mean().backward()
                clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
    assert not named(list(watch.findings.symptoms), "norm-mismatch")


def test_a_clip_of_scaled_gradients_is_told_with_the_scale(tmp_path: Path) -> None:
    net = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    with gainstage.watch(net, optimizer, out=tmp_path / "run") as watch:
        for _ in range(4):
            optimizer.zero_grad()
            scaler.scale(net(torch.randn(8, 3)).square().mean()).backward()
            clip_grad_norm_(net.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
    (found,) = named(list(watch.findings.symptoms), "norm-mismatch")
    assert found.evidence.ratio == 256.0
    assert found.severity == "warning"


@pytest.mark.parametrize(("limit", "severities"), [(1e-3, ["warning"]), (1e9, [])])
def test_a_clip_after_the_step_is_told_once_it_would_have_acted(
    limit: float, severities: list[str], tmp_path: Path
) -> None:
    net = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gainstage.watch(net, optimizer, out=tmp_path / "run") as watch:
        for step in range(8):
            optimizer.zero_grad()
            scale = 1e-6 if step < 3 else 1.0
            (scale * net(torch.randn(8, 3)).square().mean()).backward()
            optimizer.step()
            clip_grad_norm_(net.parameters(), limit)
    found = named(list(watch.findings.symptoms), "norm-mismatch")
    assert [each.severity for each in found] == severities
    assert all("the step has been taken already" in message_of(each) for each in found)
    assert all(each.step == 4 for each in found)  # counted as one of the next step


def test_a_clip_of_nothing_is_told_where_nothing_else_is_clipped(tmp_path: Path) -> None:
    used_up = iter(())
    (found,) = named(symptoms(tmp_path, lambda m: clip_grad_norm_(used_up, 1.0)), "norm-mismatch")
    assert (found.severity, found.step) == ("warning", 0)
    assert "4 tensors are stepped unclipped" in message_of(found)


def test_a_clip_of_frozen_layers_beside_one_of_the_rest_is_fine(tmp_path: Path) -> None:
    def clip(model: nn.Sequential) -> None:
        clip_grad_norm_([nn.Parameter(torch.ones(2))], 1.0)  # has no gradient
        clip_grad_norm_(model.parameters(), 1.0)

    assert not named(symptoms(tmp_path, clip), "norm-mismatch")


@pytest.mark.parametrize("zeroed", [True, False])
def test_gradients_left_for_an_optimizer_that_steps_second_are_told(
    zeroed: bool, tmp_path: Path
) -> None:
    trunk, head = nn.Linear(2, 3), nn.Linear(3, 1)
    first, second = (torch.optim.SGD(net.parameters(), lr=0.01) for net in (head, trunk))
    with gainstage.watch(out=tmp_path / "run") as watch:
        for step in range(6):
            first.zero_grad()
            if zeroed or step == 0:
                second.zero_grad()
            head(trunk(torch.randn(8, 2))).square().mean().backward()
            first.step()
            second.step()
    found = named(list(watch.findings.symptoms), "norm-mismatch")
    assert [each.severity for each in found] == ([] if zeroed else ["critical"])


LOSSES: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str | None, int]] = {
    "mean": (lambda y: y.square().mean(), "mean", 1),
    "sum": (lambda y: y.square().sum(), "sum", 40),
    "terms": (lambda y: y.square().mean() - 0.5 * y.exp().sum(), "sum", 20),
    "means": (lambda y: y.square().mean() + 3 * y.abs().mean(), "mean", 1),
    "nearly": (lambda y: (y.double() * 1e3).sum() * 1e307, "sum", 2**62),
    "infinite": (lambda y: y.square().sum() * float("inf"), None, 1),
    "divided": (lambda y: y.square().sum() / 40, None, 1),
    "each sample": (lambda y: y.square().sum(1).mean(), "mean", 1),
    "function": (lambda y: nn.functional.mse_loss(y, y * 0, reduction="sum"), "sum", 40),
}


@pytest.mark.parametrize("name", LOSSES)
def test_over_how_many_elements_a_loss_sums(name: str) -> None:
    loss_of, reduction, elements = LOSSES[name]
    loss = loss_made(loss_of(torch.ones(10, 4, requires_grad=True) * 1))
    assert (loss.reduction, loss.summed_elements) == (reduction, elements)


def two_networks_in_turn(zeroed: bool) -> None:
    """One network's backward call leaves gradients in the other, which zeroes them if told to."""
    made, judge = nn.Linear(2, 3), nn.Linear(3, 1)
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.01) for net in (made, judge)]
    for _ in range(6):
        for sign, optimizer in zip((-1.0, 1.0), optimizers, strict=True):
            if zeroed or optimizer is optimizers[0]:
                optimizer.zero_grad()
            (sign * judge(made(torch.randn(8, 2)))).mean().backward()
            optimizer.step()


@pytest.mark.parametrize("zeroed", [True, False])
def test_gradients_that_are_never_zeroed_are_told_at_the_second_step(
    zeroed: bool, tmp_path: Path
) -> None:
    with gainstage.watch(out=tmp_path / "run") as watch:
        two_networks_in_turn(zeroed)
    found = named(list(watch.findings.symptoms), "norm-mismatch")
    assert [each.severity for each in found] == ([] if zeroed else ["critical"])
    assert watch.findings.verdict == ("healthy" if zeroed else "at-risk")
    assert all("2 of 2 tensors are running sums" in message_of(each) for each in found)
    assert all(each.step <= 3 for each in found)


@pytest.mark.parametrize(("batch", "severity"), [(2, "warning"), (6, "info"), (16, None)])
def test_batch_norm_over_few_values_is_told(
    batch: int, severity: str | None, tmp_path: Path
) -> None:
    found = named(
        symptoms(tmp_path, lambda model: None, batch=batch, norm=True), "normalization-noise"
    )
    assert [each.severity for each in found] == ([] if severity is None else [severity])
    assert all(each.evidence.values == batch for each in found)


def test_a_logarithm_on_its_way_to_0_is_forecast_while_the_run_lives(tmp_path: Path) -> None:
    logit = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([logit], lr=0.1)
    with gainstage.watch(out=tmp_path / "run", budget=1.0) as watch:
        for _ in range(160):
            optimizer.zero_grad()
            p = torch.sigmoid(logit)
            (torch.log(1 - p) - torch.log(p) - logit.detach() * 0).sum().backward()
            optimizer.step()
    (found,) = named(list(watch.findings.symptoms), "overflow-forecast")
    fails = 17 / 0.1  # the logit rises by lr a step, and 1 - p is 0 from about 17 on
    assert found.step < 160
    assert found.evidence.overflow_step == pytest.approx(fails, rel=0.1)
    assert watch.findings.verdict == "healthy"
