from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad
from torch.optim import Optimizer, optimizer

import gainstage
from gainstage import ConfigError


def hooks() -> list[object]:
    return [
        torch.autograd.backward,
        torch.autograd.grad,
        torch.nn.utils.clip_grad_norm_,
        torch.nn.utils.get_total_norm,
        clip_grad.clip_grad_norm_,
        clip_grad._get_total_norm,
        Optimizer.add_param_group,
        torch.amp.GradScaler.step,
        len(optimizer._global_optimizer_pre_hooks),
        len(optimizer._global_optimizer_post_hooks),
    ]


def train(steps: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(steps):
        sgd.zero_grad()
        net(torch.randn(16, 4)).pow(2).mean().backward()
        sgd.step()
    return net


def test_watching_a_block_records_it_and_leaves_no_trace(tmp_path: Path) -> None:
    before = hooks()
    with gainstage.watch(out=tmp_path / "run") as watch:
        assert hooks() != before
        seen = train(12)
        assert watch.run.block().step.tolist() == list(range(12))
    assert hooks() == before
    assert watch.findings.verdict == "healthy"
    names = [info.name for info in watch.run.tensors()]
    assert names == ["0.weight", "0.bias", "2.weight", "2.bias"]
    bare = train(12)
    for one, other in zip(seen.parameters(), bare.parameters(), strict=True):
        assert torch.equal(one, other)


def test_an_optimizer_that_nothing_holds_any_more_is_not_watched(tmp_path: Path) -> None:
    left = torch.optim.SGD(nn.Sequential(nn.Linear(4, 8)).parameters(), lr=0.1)
    left.itself = left  # type: ignore[attr-defined]  # what a notebook's cell leaves when run anew
    del left
    with gainstage.watch(out=tmp_path / "run") as watch:
        train(2)
        assert [info.name for info in watch.run.tensors()][:2] == ["0.weight", "0.bias"]


def test_the_record_holds_the_norms_before_the_step(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.tensor([1.0, 1.0]))
    sgd = torch.optim.SGD([weight], lr=0.5)
    with gainstage.watch(out=tmp_path / "run") as watch:
        for scale in (3.0, 4.0, 0.0, 1e25):
            sgd.zero_grad()
            (scale * weight).sum().backward()
            torch.nn.utils.clip_grad_norm_([weight], 1.0)
            sgd.step()
    block = watch.run.block()
    want = [3 * 2**0.5, 4 * 2**0.5, 0.0, 1e25 * 2**0.5]
    assert block.grad_norm.tolist() == pytest.approx(want, rel=1e-6)
    assert block.grad_norms[:, 0].tolist() == pytest.approx(want, rel=1e-6)
    assert block.max_norm.tolist() == [1.0] * 4
    assert block.lr.tolist() == [0.5] * 4
    assert [info.name for info in watch.run.tensors()] == ["weight"]


def test_a_process_is_watched_once_at_a_time(tmp_path: Path) -> None:
    with (
        gainstage.watch(out=tmp_path / "one"),
        pytest.raises(ConfigError, match="is watched already, into"),
    ):
        gainstage.watch(out=tmp_path / "two")


def test_a_wrong_treatment_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    before = hooks()
    with pytest.raises(ConfigError, match="no remedy 'leeches'"):
        gainstage.watch(out=tmp_path / "run", treat="leeches")
    assert hooks() == before
    assert not (tmp_path / "run").exists()
