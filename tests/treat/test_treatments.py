from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gainstage

OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"momentum": 0.9, "weight_decay": 0.1}),
    ("SGD", {"fused": True}),
    ("Adam", {}),
    ("Adam", {"foreach": True}),
    ("AdamW", {"fused": True}),
    ("AdamW", {"amsgrad": True}),
    ("Adagrad", {}),
    ("Adadelta", {}),
    ("Adamax", {}),
    ("ASGD", {}),
    ("NAdam", {}),
    ("RAdam", {}),
    ("RMSprop", {"momentum": 0.9}),
    ("Rprop", {}),
]


def state_of(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    entries = [each for state in optimizer.state.values() for each in state.values()]
    return [each.clone() for each in entries if isinstance(each, torch.Tensor)]


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_a_skipped_step_touches_neither_parameters_nor_state(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = nn.Linear(4, 3)
    optimizer = getattr(torch.optim, name)(net.parameters(), lr=0.01, **options)
    with gainstage.watch(out=tmp_path / "run", treat="skip-nonfinite") as watch:
        for step in range(3):
            optimizer.zero_grad()
            net(torch.randn(8, 4)).pow(2).mean().backward()
            before = [p.detach().clone() for p in net.parameters()], state_of(optimizer)
            if step == 2:
                net.weight.grad[0, 0] = math.nan  # type: ignore[index]
            optimizer.step()
    after = [p.detach() for p in net.parameters()], state_of(optimizer)
    for one, other in zip(before, after, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert net.weight.grad is not None
    assert net.weight.grad[0, 0].isnan()
    assert watch.run.block().skipped.tolist() == [0, 0, -1]
    assert watch.findings.verdict == "healthy"


def test_clipping_from_outside_equals_clipping_in_the_script(tmp_path: Path) -> None:
    def train(clip: bool) -> nn.Module:
        torch.manual_seed(0)
        net = nn.Linear(4, 3)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
        for _ in range(10):
            optimizer.zero_grad()
            net(torch.randn(8, 4)).pow(2).sum().backward()
            if clip:
                gainstage.clip_grad_norm_(net.parameters(), 0.5)
            optimizer.step()
        return net

    own = train(True)
    with gainstage.watch(out=tmp_path / "run", treat="clip-global-norm:max_norm=0.5") as watch:
        outside = train(False)
    for one, other in zip(own.parameters(), outside.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert (watch.run.block().clip_coefficient < 1).all()
    assert (watch.run.block().grad_norm > 0.5).all()


@pytest.mark.parametrize("closure", [False, True])
def test_a_lower_rate_holds_for_the_step_and_is_given_back(closure: bool, tmp_path: Path) -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

    def evaluate() -> torch.Tensor:
        optimizer.zero_grad()
        loss = weight.sum()
        loss.backward()
        return loss

    with gainstage.watch(out=tmp_path / "run", treat="lower-lr:factor=0.1"):
        for rate in (1.0, 0.5, 0.25):
            before = weight.item()
            if closure:
                optimizer.step(evaluate)
            else:
                evaluate()
                optimizer.step()
            assert before - weight.item() == pytest.approx(0.1 * rate)
            assert optimizer.param_groups[0]["lr"] == rate
            schedule.step()


def test_a_treated_closure_is_clipped(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = torch.optim.SGD([weight], lr=1.0)

    def evaluate() -> torch.Tensor:
        optimizer.zero_grad()
        loss = weight.pow(2).sum() / 2
        loss.backward()
        return loss

    with gainstage.watch(out=tmp_path / "run", treat="clip-global-norm:max_norm=1") as watch:
        optimizer.step(evaluate)
    assert weight.tolist() == pytest.approx([2.4, 3.2])
    assert watch.run.block().grad_norm.tolist() == pytest.approx([5.0])
    assert watch.run.block().loss.tolist() == pytest.approx([12.5])
