"""Smaller steps, larger eps, float32 where autocast would not have it, and a scaled loss."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import gainstage
from gainstage.treat.optimizer.cool_down import Spikes


def test_a_warm_up_rises_to_the_scripts_own_schedule(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.tensor([0.0]))
    sgd = torch.optim.SGD([weight], lr=1.0)
    schedule = torch.optim.lr_scheduler.ExponentialLR(sgd, 0.5)
    moved = []
    with gainstage.watch(out=tmp_path / "run", treat="warm-up:steps=4") as watch:
        for _ in range(6):
            before = weight.item()
            sgd.zero_grad()
            weight.sum().backward()
            sgd.step()
            moved.append(before - weight.item())
            schedule.step()
    assert moved == pytest.approx([0.25, 0.25, 0.1875, 0.125, 1 / 16, 1 / 32])
    assert watch.run.block().lr.tolist() == pytest.approx(moved)


def test_a_spike_cools_its_own_step_and_those_that_follow(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.tensor([0.0]))
    sgd = torch.optim.SGD([weight], lr=1.0)
    moved = []
    with gainstage.watch(out=tmp_path / "run", treat="lower-lr:factor=0.01,after=spike,for=3"):
        for step in range(20):
            before = weight.item()
            sgd.zero_grad()
            (weight * (64.0 if step == 12 else 1.0)).sum().backward()
            sgd.step()
            moved.append(before - weight.item())
    assert moved == pytest.approx([1.0] * 12 + [0.64, 0.01, 0.01] + [1.0] * 5, rel=1e-4)


def test_what_counts_as_a_spike() -> None:
    spikes = Spikes(6.0)
    torch.manual_seed(0)
    usual = torch.randn(200).mul(0.3).exp().tolist()
    assert not any(spikes.is_spike(norm) for norm in usual)
    assert not spikes.is_spike(3.0)
    assert spikes.is_spike(100.0)
    assert spikes.is_spike(math.inf)
    assert spikes.is_spike(math.nan)
    assert not Spikes(6.0).is_spike(100.0)


def test_an_eps_of_zero_is_raised_for_the_step_and_given_back(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.ones(2))
    adam = torch.optim.Adam([weight], lr=0.1, eps=0.0)
    with gainstage.watch(out=tmp_path / "run", treat="raise-eps:eps=1e-6"):
        (weight * torch.tensor([1.0, 0.0])).sum().backward()
        adam.step()
    assert weight.tolist() == pytest.approx([0.9, 1.0])
    assert adam.param_groups[0]["eps"] == 0.0
    bare = nn.Parameter(torch.ones(2))
    adam = torch.optim.Adam([bare], lr=0.1, eps=0.0)
    (bare * torch.tensor([1.0, 0.0])).sum().backward()
    adam.step()
    assert bare[1].isnan()


class Half(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.seen: list[torch.dtype] = []

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.second(x)
        self.seen = [x.dtype, y.dtype]
        return y


@pytest.mark.parametrize(
    ("text", "dtypes"),
    [
        ("fp32-module", [torch.float32, torch.float32]),
        ("fp32-module:module=second", [torch.float16, torch.float32]),
        ("fp32-module:module=first", [torch.float32, torch.float16]),
        ("fp32-module:module=sec*+first", [torch.float32, torch.float32]),
        ("fp32-module:from=1", [torch.float16, torch.float16]),
    ],
)
def test_a_module_is_kept_out_of_autocast(
    text: str, dtypes: list[torch.dtype], tmp_path: Path
) -> None:
    net = Half()
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    with gainstage.watch(net, sgd, out=tmp_path / "run", treat=text) as watch:
        with torch.autocast("cpu", dtype=torch.float16):
            out = net(torch.randn(2, 4))
            assert torch.is_autocast_enabled("cpu") == (text != "fp32-module")
        assert not torch.is_autocast_enabled("cpu")
        assert net.seen == dtypes
        out.float().sum().backward()
        sgd.step()
        assert not watch._session.recorder.boundary.has_failed
    with torch.autocast("cpu", dtype=torch.float16):
        net(torch.randn(2, 4))
        assert torch.is_autocast_enabled("cpu")
    assert net.seen == [torch.float16, torch.float16]


def test_autocast_comes_back_when_the_module_raises(tmp_path: Path) -> None:
    net = Half()
    with (
        gainstage.watch(net, out=tmp_path / "run", treat="fp32-module:module=second"),
        torch.autocast("cpu", dtype=torch.float16),
    ):
        with pytest.raises(RuntimeError, match="shape"):
            net.second(torch.randn(2, 5))
        assert torch.is_autocast_enabled("cpu")
        net(torch.randn(2, 4))
    assert net.seen == [torch.float16, torch.float32]


def test_a_module_that_is_not_there_is_said(tmp_path: Path) -> None:
    with gainstage.watch(out=tmp_path / "run", treat="fp32-module:module=nosuch") as watch:
        (treatment,) = watch._session.treatments
    assert treatment.notes == ["fp32-module found no module called 'nosuch'"]


def test_a_scaled_loss_saves_small_deltas_and_leaves_gradients_of_the_right_size(
    tmp_path: Path,
) -> None:
    def gradient(treat: tuple[str, ...]) -> list[float]:
        weight = nn.Parameter(torch.ones(2))
        sgd = torch.optim.SGD([weight], lr=0.1)
        with gainstage.watch(out=tmp_path / f"run{len(treat)}", treat=treat) as watch:
            for _ in range(2):  # accumulated
                half = weight.half() * 1.0
                (half.float() * 1e-8).sum().backward()
            assert weight.grad is not None
            grad = weight.grad.tolist()
            sgd.step()
            assert not watch._session.recorder.boundary.has_failed
        return grad

    assert gradient(()) == [0.0, 0.0]
    assert gradient(("scale-loss:factor=65536",)) == pytest.approx([2e-8, 2e-8], rel=1e-2)
