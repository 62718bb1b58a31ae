"""After `watch.stop()` nothing of ours runs or grows, and nothing of the script's is kept."""

from __future__ import annotations

import functools
import gc
import importlib
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad

import gainstage


def make() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    return net, torch.optim.SGD(net.parameters(), lr=0.01)


def train(
    steps: int, net: nn.Module, optimizer: Any = None, clip: Callable[..., Any] | None = None
) -> None:
    for _ in range(steps):
        net.zero_grad()
        net(torch.ones(2, 3)).square().mean().backward()
        if clip is not None:
            clip(net.parameters(), 1.0)
        if optimizer is not None:
            optimizer.step()


PLACES = [
    (torch.autograd, "backward"),
    (torch.autograd, "grad"),
    (clip_grad, "clip_grad_norm_"),
    (clip_grad, "clip_grad_value_"),
    (clip_grad, "_get_total_norm"),
    (clip_grad, "_clip_grads_with_norm_"),
    (torch.nn.utils, "clip_grad_norm_"),
    (torch.optim.Optimizer, "add_param_group"),
    (torch.amp.GradScaler, "scale"),
    (torch.amp.GradScaler, "unscale_"),
    (torch.amp.GradScaler, "step"),
    (torch, "compile"),
    (importlib.import_module("torch._functorch.eager_transforms"), "grad_and_value_impl"),
]


def test_every_attribute_of_torch_is_its_own_again(tmp_path: Path) -> None:
    before = [getattr(owner, name) for owner, name in PLACES]
    with gainstage.watch(out=tmp_path / "run"):
        during = [getattr(owner, name) for owner, name in PLACES]
    assert all(a is not b for a, b in zip(before, during, strict=True))
    assert [getattr(owner, name) for owner, name in PLACES] == before


def test_a_clip_imported_while_watched_is_torchs_after_stop(tmp_path: Path) -> None:
    net, optimizer = make()
    watch = gainstage.watch(net, optimizer, out=tmp_path / "run")
    from torch.nn.utils import clip_grad_norm_

    train(3, net, optimizer, clip_grad_norm_)
    watch.stop()
    recorder = watch._session.recorder
    seen = recorder.boundary.entries, recorder.step, recorder.backward_calls
    train(50, net, optimizer, clip_grad_norm_)
    assert (recorder.boundary.entries, recorder.step, recorder.backward_calls) == seen
    assert recorder._clips.calls == []
    assert clip_grad_norm_.__wrapped__ is clip_grad.clip_grad_norm_


@pytest.mark.parametrize("by_hand", [False, True])
def test_ours_within_a_wrapper_of_another_library_does_nothing_after_stop(
    by_hand: bool, tmp_path: Path
) -> None:
    owner: Any = torch.autograd
    name = "backward"
    net, optimizer = make()
    stepped = None if by_hand else optimizer
    torchs = getattr(owner, name)
    watch = gainstage.watch(net, stepped, out=tmp_path / "run")
    watch._session.recorder.has_optimizer = not by_hand  # others of this process may be alive
    ours = getattr(owner, name)

    @functools.wraps(ours)
    def theirs(*args: Any, **kwargs: Any) -> Any:
        return ours(*args, **kwargs)

    setattr(owner, name, theirs)
    try:
        train(5, net, stepped)
        watch.stop()
        recorder = watch._session.recorder
        entries, step = recorder.boundary.entries, recorder.step
        assert step == 5
        train(20, net, stepped)
        assert (recorder.boundary.entries, recorder.step) == (entries, step)
        assert not torch.is_anomaly_enabled()
        with gainstage.watch(net, stepped, out=tmp_path / "second") as second:
            second._session.recorder.has_optimizer = not by_hand
            train(4, net, stepped)
        assert second._session.recorder.step == 4
        assert (recorder.boundary.entries, recorder.step) == (entries, step)
    finally:
        setattr(owner, name, torchs)


def test_functional_gradients_are_not_watched_after_stop(tmp_path: Path) -> None:
    weight = torch.ones(3, requires_grad=True)

    def loss() -> Tensor:
        return (weight * 2.0).square().sum()

    watch = gainstage.watch(out=tmp_path / "run")
    watch._session.recorder.has_optimizer = False  # others of this process may be alive
    grad = torch.autograd.grad
    for _ in range(3):
        grad(loss(), [weight])
    watch.stop()
    recorder = watch._session.recorder
    assert recorder.step == 3
    grad(loss(), iter([weight]))
    torch.func.grad(lambda w: (w * w).sum())(torch.ones(2))
    assert (recorder.step, recorder.backward_calls) == (3, 3)


def test_a_loss_scaler_kept_is_torchs_after_stop(tmp_path: Path) -> None:
    net, optimizer = make()
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    watch = gainstage.watch(net, optimizer, out=tmp_path / "run")
    scale, step = scaler.scale, scaler.step
    watch.stop()
    entries = watch._session.recorder.boundary.entries
    loss = net(torch.ones(2, 3)).square().mean()
    scale(loss).backward()
    step(optimizer)
    scaler.update()
    assert watch._session.recorder.boundary.entries == entries


def test_a_compile_that_was_kept_is_torchs_after_stop(tmp_path: Path) -> None:
    watch = gainstage.watch(out=tmp_path / "run")
    kept: Any = torch.compile
    watch.stop()
    entries = watch._session.recorder.boundary.entries
    assert kept(lambda x: x, backend="eager") is not None
    assert watch._session.recorder.boundary.entries == entries


def test_no_tensor_of_the_function_that_watched_is_kept(tmp_path: Path) -> None:
    references: list[Any] = []
    watches: list[gainstage.Watch] = []

    def training() -> None:
        net, optimizer = make()
        watch = gainstage.watch(net, optimizer, out=tmp_path / "run")
        batch = torch.ones(2, 3)
        for _ in range(6):
            loss = net(batch).square().mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
        references.extend(map(weakref.ref, (batch, loss, net, optimizer, net[0].weight)))  # type: ignore[index]
        watches.append(watch)
        watch.stop()
        del batch, loss
        gc.collect()
        assert [reference() for reference in references[:2]] == [None, None]

    training()
    gc.collect()
    assert [reference() for reference in references] == [None] * 5
    assert watches[0]._session.recorder.step == 6


def test_a_closure_kept_by_an_optimizer_is_the_scripts_after_its_step(tmp_path: Path) -> None:
    class Keeping(torch.optim.SGD):
        kept: Any = None

        def step(self, closure: Any = None) -> Any:
            self.kept = closure
            return super().step(closure)

    net = nn.Linear(3, 1)
    optimizer = Keeping(net.parameters(), lr=0.01)

    def closure() -> Tensor:
        net.zero_grad()
        loss = net(torch.ones(2, 3)).square().mean()
        loss.backward()
        return loss

    watch = gainstage.watch(net, optimizer, out=tmp_path / "run")
    optimizer.step(closure)
    watch.stop()
    recorder = watch._session.recorder
    assert recorder.step == 1
    entries = recorder.boundary.entries
    assert optimizer.kept is not closure
    assert optimizer.kept().isfinite()
    assert (recorder.step, recorder.boundary.entries) == (1, entries)
