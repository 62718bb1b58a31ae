"""Parameters that came after the optimizer and are not handed over to it are told; no others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gainstage
from gainstage.detect.symptom_json import message_of
from gainstage.facts.symptom import Symptom

STEPS = 30


def body_and_head() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def train(folder: Path, prepare: Callable[..., Callable[[int], torch.Tensor]]) -> list[Symptom]:
    """Train what `prepare` makes, given a function that takes note of an optimizer."""
    optimizers: list[torch.optim.Optimizer] = []
    with gainstage.watch(out=folder, budget=1.0) as watch:
        loss_of = prepare(optimizers.append)
        for step in range(STEPS):
            loss = loss_of(step)
            for each in optimizers:
                each.zero_grad()
            loss.backward()
            for each in optimizers:
                each.step()
        del loss_of, loss
    return [each for each in watch.findings.symptoms if each.symptom == "step-skipped"]


X, Y = torch.rand(16, 4), torch.randint(2, (16,))


def test_a_head_that_is_replaced_after_the_optimizer_is_told(tmp_path: Path) -> None:
    def prepare(hold: Callable[[torch.optim.Optimizer], None]) -> Callable[[int], torch.Tensor]:
        model = body_and_head()
        hold(torch.optim.SGD(model.parameters(), lr=0.1))
        model[2] = nn.Linear(8, 2)
        return lambda step: F.cross_entropy(model(X), Y)

    (told,) = train(tmp_path / "run", prepare)
    assert (told.severity, told.step) == ("critical", 8)
    assert "2.weight, 2.bias: 2 of 4 tensors get gradients and no optimizer" in message_of(told)
    found = gainstage.load(tmp_path / "run").findings
    assert found.verdict == "at-risk"
    assert found.diagnosis is not None
    assert found.diagnosis.cause == "optimizer-config"
    assert "2.weight, 2.bias" in found.diagnosis.remedies[0].why


def head_only(hold: Callable[[torch.optim.Optimizer], None]) -> Callable[[int], torch.Tensor]:
    model = body_and_head()
    hold(torch.optim.SGD(model[2].parameters(), lr=0.1))
    return lambda step: F.cross_entropy(model(X), Y)


def handed_over_later(
    hold: Callable[[torch.optim.Optimizer], None],
) -> Callable[[int], torch.Tensor]:
    model = body_and_head()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    hold(sgd)
    model[2] = nn.Linear(8, 2)

    def loss_of(step: int) -> torch.Tensor:
        if step == 5:
            sgd.add_param_group({"params": model[2].parameters()})
        return F.cross_entropy(model(X), Y)

    return loss_of


def second_optimizer(
    hold: Callable[[torch.optim.Optimizer], None],
) -> Callable[[int], torch.Tensor]:
    model = body_and_head()
    hold(torch.optim.SGD(model.parameters(), lr=0.1))
    model[2] = nn.Linear(8, 2)
    hold(torch.optim.Adam(model[2].parameters()))
    return lambda step: F.cross_entropy(model(X), Y)


def another_network_in_the_loss(
    hold: Callable[[torch.optim.Optimizer], None],
) -> Callable[[int], torch.Tensor]:
    model = body_and_head()
    hold(torch.optim.SGD(model.parameters(), lr=0.1))
    features = nn.Linear(2, 3)
    return lambda step: features(model(X)).square().mean()


def weights_made_anew(
    hold: Callable[[torch.optim.Optimizer], None],
) -> Callable[[int], torch.Tensor]:
    model = body_and_head()
    hold(torch.optim.SGD(model.parameters(), lr=0.1))

    def loss_of(step: int) -> torch.Tensor:
        model[2].weight = nn.Parameter(torch.rand(2, 8))
        return F.cross_entropy(model(X), Y)

    return loss_of


@pytest.mark.parametrize(
    "prepare",
    [
        head_only,
        handed_over_later,
        second_optimizer,
        another_network_in_the_loss,
        weights_made_anew,
    ],
)
def test_what_is_left_out_on_purpose_is_not_told(
    prepare: Callable[..., Callable[[int], torch.Tensor]], tmp_path: Path
) -> None:
    assert train(tmp_path / "run", prepare) == []
