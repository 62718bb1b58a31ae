"""Norms inserted after modules: the right numbers, their way to the optimizer, and the refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import gainstage
from gainstage.treat.model.insert_norm import InsertNorm
from gainstage.treat.model.norm_after import NormAfter, features_of


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e25])
@pytest.mark.parametrize("kind", ["layer", "rms", "batch"])
def test_an_inserted_norm_is_torchs(kind: str, scale: float) -> None:
    if kind == "batch" and scale > 1:
        return  # torch's own statistics overflow
    torch.manual_seed(0)
    norm = NormAfter(nn.Linear(1, 6), kind, 1, 6, 1e-5)
    x = torch.randn(16, 6)
    want = {
        "layer": lambda: F.layer_norm(x.double() * scale, (6,), eps=1e-5),
        "rms": lambda: F.rms_norm(x.double() * scale, (6,), eps=1e-5),
        "batch": lambda: nn.BatchNorm1d(6, dtype=torch.float64)(x.double() * scale).detach(),
    }[kind]()
    torch.testing.assert_close(norm.of(x * scale).double(), want, rtol=1e-3, atol=1e-4)


@settings(max_examples=25)
@given(st.integers(0, 1000), st.sampled_from([0.25, 8.0, 1e6]))
def test_norms_over_features_do_not_see_the_scale(seed: int, scale: float) -> None:
    torch.manual_seed(seed)
    x = torch.randn(3, 5, 4)
    for kind in ("layer", "rms"):
        norm = NormAfter(nn.Linear(1, 4), kind, 2, 4, 1e-12)
        torch.testing.assert_close(norm.of(x * scale), norm.of(x), rtol=1e-3, atol=1e-4)


def test_features_lie_along_the_channels_of_images_and_the_end_of_sequences() -> None:
    assert features_of(nn.Conv1d(3, 4, 1), torch.Size([2, 4, 9])) == (1, 4)
    assert features_of(nn.Sequential(), torch.Size([2, 4, 9, 9])) == (1, 4)
    assert features_of(nn.Linear(3, 4), torch.Size([2, 9, 4])) == (2, 4)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 32), nn.Linear(32, 32)
        self.readout = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(torch.relu(self.second(torch.relu(self.first(x)))))


def treated(
    net: nn.Module, treat: str, folder: Path, *, batch: int = 16, steps: int = 3, **options: Any
) -> tuple[InsertNorm, torch.optim.Optimizer, list[float]]:
    sgd = torch.optim.SGD(net.parameters(), lr=0.01, **options)
    losses: list[float] = []
    with gainstage.watch(net, sgd, out=folder, treat=treat) as watch:
        for _ in range(steps):
            out = net(torch.randn(batch, 4))
            loss = (out[0] if isinstance(out, tuple) else out).pow(2).mean()
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            losses.append(loss.item())
        (treatment,) = watch._session.treatments
        assert not watch._session.recorder.boundary.has_failed
        assert isinstance(treatment, InsertNorm)
        if treatment.inserted():
            names = [name for name, _ in net.named_parameters()]
            assert any("gainstage_norm_weight" in name for name in names)
            held = [p for group in sgd.param_groups for p in group["params"]]
            assert {id(p) for p in held} == {id(p) for p in net.parameters()}
            assert [info.name for info in watch.run.tensors()].count(names[-1]) == 1
            moved = [p for n, p in net.named_parameters() if "norm_weight" in n]
            assert steps < 3 or all((p != 1).any() for p in moved)
    return treatment, sgd, losses


@pytest.mark.parametrize("kind", ["layer", "rms", "batch"])
def test_norms_go_where_the_level_grows_and_not_after_the_readout(
    kind: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = Net()
    with torch.no_grad():
        for layer in (net.second, net.readout):
            layer.weight.mul_(100)
    treatment, sgd, losses = treated(net, f"insert-norm:kind={kind}", tmp_path / "run")
    assert treatment.inserted() == ["second"]
    assert losses[1] < losses[0] / 100
    assert len(sgd.param_groups[0]["params"]) == 6
    block = gainstage.load(tmp_path / "run").block()
    assert block.skipped.tolist() == [-1, 0, 0]


class Stream(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4)) for _ in range(6)
        )
        self.readout = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        for branch in self.branches:
            x = x + 0.5 * branch(x)
        return self.readout(x)


def test_where_no_module_grows_norms_end_the_branches_of_a_stream(tmp_path: Path) -> None:
    torch.manual_seed(0)
    treatment, _, _ = treated(Stream(), "insert-norm", tmp_path / "run", momentum=0.9)
    assert treatment.inserted() == [f"branches.{i}.2" for i in range(1, 6)]


def test_nothing_is_inserted_where_nothing_grows(tmp_path: Path) -> None:
    torch.manual_seed(0)
    treatment, _, _ = treated(Net(), "insert-norm", tmp_path / "run")
    assert treatment.inserted() == []
    assert "nor is added to what it was made from" in treatment.notes[0]


def test_named_modules_and_patterns_are_sites(tmp_path: Path) -> None:
    torch.manual_seed(0)
    treatment, _, _ = treated(Net(), "insert-norm:at=first+sec*", tmp_path / "run", momentum=0.9)
    assert treatment.inserted() == ["first", "second"]


def test_a_module_that_is_not_there_is_said(tmp_path: Path) -> None:
    treatment, _, _ = treated(Net(), "insert-norm:at=third", tmp_path / "run")
    assert treatment.notes == ["insert-norm found no module called 'third'"]


def test_batch_norm_is_refused_for_a_small_batch_and_layer_norm_is_not(tmp_path: Path) -> None:
    torch.manual_seed(0)
    small, _, _ = treated(Net(), "insert-norm:kind=batch,at=first", tmp_path / "a", batch=7)
    assert small.inserted() == []
    assert small.notes == [
        "insert-norm left out first: its batch of 7 is below 8, so batch statistics would be "
        "noise; kind=layer does without"
    ]
    enough, _, _ = treated(Net(), "insert-norm:kind=batch,at=first", tmp_path / "b", batch=8)
    assert enough.inserted() == ["first"]
    layer, _, _ = treated(Net(), "insert-norm:kind=layer,at=first", tmp_path / "c", batch=2)
    assert layer.inserted() == ["first"]


class Loop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = torch.tanh(self.cell(x))
        return x


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.gru(x)


@pytest.mark.parametrize(("net", "name"), [(Loop, "cell"), (Gated, "gru")])
def test_batch_norm_is_refused_within_a_recurrence(
    net: type[nn.Module], name: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    batch, _, _ = treated(net(), f"insert-norm:kind=batch,at={name}", tmp_path / "batch")
    assert batch.inserted() == []
    assert "part of a recurrence" in batch.notes[0]
    layer, _, _ = treated(net(), f"insert-norm:at={name}", tmp_path / "layer")
    assert layer.inserted() == [name]


def test_a_later_small_batch_uses_the_running_statistics(tmp_path: Path) -> None:
    norm = NormAfter(nn.Linear(1, 3), "batch", 1, 3, 0.0)
    one = torch.randn(1, 3)
    torch.testing.assert_close(norm.of(one), one, rtol=1e-4, atol=1e-5)
