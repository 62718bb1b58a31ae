"""The one way in from torch: it counts, guards, and ends."""

from __future__ import annotations

import gc
import math
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gainstage
from gainstage.attach import hooks
from gainstage.attach.boundary import Boundary
from gainstage.attach.record.recorder import Recorder
from gainstage.errors import GainstageError
from gainstage.facts.rows import Row


class BrokenError(Exception):
    """An error of gainstage's own."""


class Sink:
    """Takes rows until one of them breaks it."""

    def __init__(self, *, breaks_at: int = -1) -> None:
        self.rows: list[Row] = []
        self._breaks_at = breaks_at

    def append(self, row: Row) -> None:
        if row[0] == self._breaks_at:
            raise BrokenError
        self.rows.append(row)

    def append_weights(self, step: int, norms: Sequence[float | None]) -> None: ...

    def set_tensors(self, tensors: Sequence[Any]) -> None: ...


@pytest.fixture
def told() -> list[BaseException]:
    return []


@pytest.fixture
def boundary(told: list[BaseException]) -> Boundary:
    return Boundary(told.append)


def broken(*args: Any) -> None:
    raise BrokenError


def test_a_hook_counts_and_passes_on_what_ours_returns(boundary: Boundary) -> None:
    enter = boundary.hook(lambda a, b: a + b)
    assert (enter(1, 2), enter(3, 4), boundary.entries) == (3, 7, 2)


def test_an_error_of_ours_is_told_once_and_ends_all_that_does_not_last(
    boundary: Boundary, told: list[BaseException]
) -> None:
    calls: list[str] = []
    enter = boundary.hook(broken)
    other = boundary.hook(lambda: calls.append("other"))
    lasting = boundary.hook(lambda: calls.append("lasting"), lasts=True)
    assert [enter(), enter(), other(), lasting()] == [None] * 4
    assert [type(each) for each in told] == [BrokenError]
    assert calls == ["lasting"]
    boundary.retire()
    lasting()
    assert calls == ["lasting"]


def test_torchs_function_runs_once_whatever_ours_do(
    boundary: Boundary, told: list[BaseException]
) -> None:
    runs: list[int] = []

    def torchs(number: int) -> int:
        runs.append(number)
        return 2 * number

    before = boundary.around(torchs, before=broken)
    assert before(1) == 2
    after = Boundary(told.append).around(torchs, before=lambda n: n, after=broken)
    assert after(2) == 4
    assert (runs, [type(each) for each in told]) == ([1, 2], [BrokenError, BrokenError])


def test_an_error_of_torchs_is_the_scripts_and_shows_no_frame_of_ours(
    boundary: Boundary, told: list[BaseException]
) -> None:
    ended: list[bool] = []

    def torchs() -> None:
        raise ValueError("torch's own")

    stand_in = boundary.around(torchs, before=lambda: 1, on_error=lambda: ended.append(True))
    with pytest.raises(ValueError, match="torch's own") as caught:
        stand_in()
    files = [Path(str(entry.path)).name for entry in caught.traceback]
    assert files == ["test_boundary.py", "test_boundary.py"]
    assert (ended, told) == ([True], [])


def test_after_retiring_a_function_is_torchs_and_holds_nothing_of_ours(boundary: Boundary) -> None:
    class Ours:
        def before(self, number: int) -> int:
            return number

    ours = Ours()
    kept = weakref.ref(ours)
    around = boundary.around(abs, before=ours.before)
    instead = boundary.instead(abs, ours.before)
    hook = boundary.hook(ours.before)
    assert (around(-1), instead(-1), hook(-1), boundary.entries) == (1, -1, -1, 3)
    boundary.retire()
    del ours
    gc.collect()
    assert kept() is None
    assert (around(-1), instead(-1), hook(-1), boundary.entries) == (1, 1, None, 3)


def train(steps: int, optimizer: Any, net: nn.Module) -> None:
    for _ in range(steps):
        net.zero_grad()
        net(torch.ones(2, 3)).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.LBFGS])
def test_a_sink_that_breaks_ends_watching_and_not_the_training(
    optimizer: Any, told: list[BaseException]
) -> None:
    sink = Sink(breaks_at=3)
    recorder = Recorder(lambda tensors: sink, on_fault=told.append)
    detach = hooks.attach(recorder)
    net = nn.Linear(3, 1)
    made = optimizer(net.parameters(), lr=1e-3)
    try:
        for _ in range(8):

            def closure() -> torch.Tensor:
                net.zero_grad()
                loss = net(torch.ones(2, 3)).square().sum()
                loss.backward()
                return loss

            closure()
            made.step(closure)
    finally:
        detach()
    assert [row[0] for row in sink.rows] == [0, 1, 2]
    assert [type(each) for each in told] == [BrokenError]
    assert recorder.is_dead


def test_where_it_is_strict_the_error_reaches_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with gainstage.watch(net, optimizer, out=tmp_path / "run", strict=True) as watch:
        monkeypatch.setattr(watch._session.recorder.graph, "on_step", broken)
        with pytest.raises(GainstageError, match="BrokenError"):
            train(1, optimizer, net)
        train(1, optimizer, net)


def test_a_treatment_of_the_step_at_which_watching_ends_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    treat = "lower-lr:factor=0.1"
    with gainstage.watch(net, optimizer, out=tmp_path / "run", treat=treat) as watch:
        train(2, optimizer, net)
        monkeypatch.setattr(watch._session.recorder.graph, "on_step", broken)
        train(1, optimizer, net)
        assert optimizer.param_groups[0]["lr"] == 0.5
    assert watch._session.recorder.is_dead


def test_a_clip_during_which_watching_ends_clips_as_torch_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with gainstage.watch(net, optimizer, out=tmp_path / "run") as watch:
        monkeypatch.setattr(watch._session.recorder._clips, "note", broken)
        net(torch.ones(2, 3)).sum().backward()
        norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        assert norm.item() == pytest.approx(4.0)
        clipped = math.hypot(
            *(float(p.grad.norm()) for p in net.parameters() if p.grad is not None)
        )
        assert clipped == pytest.approx(0.5, rel=1e-4)
    assert watch._session.recorder.is_dead


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_comes_in_by_the_same_functions() -> None:
    sink = Sink()
    recorder = Recorder(lambda tensors: sink, on_fault=broken)
    detach = hooks.attach(recorder)
    net = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    try:
        train(3, optimizer, net)
        child = os.fork()
        if child == 0:
            recorder.forget()
            train(2, optimizer, net)
            os._exit(0 if [row[0] for row in sink.rows] == [0, 1, 2, 0, 1] else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        detach()
    assert [row[0] for row in sink.rows] == [0, 1, 2]
