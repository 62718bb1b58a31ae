"""Gradients on an accelerator: fake CUDA tensors show what would be launched there.

For its values the same code runs on the CPU, and on a real device where there is one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import gainstage
from gainstage.attach import hooks
from gainstage.attach.names import columns
from gainstage.attach.record.recorder import Recorder
from gainstage.facts.rows import Row
from gainstage.facts.tensor import TensorInfo
from gainstage.norms.deferred import Fetch, deferred_norms, fetched_norms
from gainstage.norms.total import gradient_norms

CUDA = "cuda"


class Waits(TorchDispatchMode):
    """Notes the operations for which the host has to wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = str(func)
        to_host = kwargs.get("device") is not None and str(kwargs["device"]) == "cpu"
        if "_local_scalar_dense" in name or "nonzero" in name or "equal.default" in name:
            self.seen.append(name)
        if "_to_copy" in name and to_host and not kwargs.get("non_blocking"):
            self.seen.append(name)
        return func(*args, **kwargs)


class Rows:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.weights: list[tuple[int, Sequence[float | None]]] = []

    def append(self, row: Row) -> None:
        self.rows.append(row)

    def append_weights(self, step: int, norms: Sequence[float | None]) -> None:
        self.weights.append((step, norms))

    def set_tensors(self, tensors: Sequence[TensorInfo]) -> None:
        pass


def fail(error: BaseException) -> None:
    raise AssertionError("a fault of gainstage") from error


@pytest.mark.parametrize("clip", [False, True])
def test_a_watched_step_on_an_accelerator_waits_for_nothing(clip: bool) -> None:
    recorder = Recorder(lambda tensors: Rows(), on_fault=fail)
    with FakeTensorMode(), Waits() as waits:
        parameters = [nn.Parameter(torch.empty(4, 3, device=CUDA)) for _ in range(3)]
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        for parameter in parameters:
            parameter.grad = torch.empty(4, 3, device=CUDA)
        detach = hooks.attach(recorder)
        try:
            recorder.before_backward(torch.empty((), device=CUDA))
            if clip:
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
        finally:
            detach()
    assert waits.seen == []
    assert (
        len(recorder._deferred.pending.waiting) == 2
    )  # the step, and the first reading of the weights


def test_the_counter_of_waits_sees_one() -> None:
    with FakeTensorMode(), Waits() as waits:
        torch.empty(3, device=CUDA).to("cpu")
    assert waits.seen == ["aten._to_copy.default"]


def train(folder: Path, *, clip: float | None, by_hand: bool = False) -> gainstage.Run:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    adam = None if by_hand else torch.optim.Adam(net.parameters(), lr=0.1)
    with gainstage.watch(net, adam, out=folder):
        for _ in range(200):
            net.zero_grad()
            net(torch.randn(16, 4)).pow(2).mean().backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
            if adam is not None:
                adam.step()
    return gainstage.load(folder)


@pytest.mark.parametrize("how", [{"clip": None}, {"clip": 0.5}, {"clip": None, "by_hand": True}])
def test_rows_that_come_late_are_those_that_come_at_once(
    how: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = train(tmp_path / "at-once", **how).steps
    monkeypatch.setattr(columns, "is_on_cpu", lambda parameters: False)
    run = train(tmp_path / "late", **how)
    late = run.steps
    for name in ("step", "loss", "lr", "max_norm", "skipped"):
        assert late[name].to_pylist() == at_once[name].to_pylist()
    for name in ("grad_norm", "clip_coefficient"):
        assert late[name].to_pylist() == [
            None if value is None else pytest.approx(value, rel=1e-5)
            for value in at_once[name].to_pylist()
        ]
    assert len(late) == 200
    assert (tmp_path / "late" / "weights").exists()


def test_a_step_that_a_fused_optimizer_leaves_out_is_counted_and_not_numbered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(columns, "is_on_cpu", lambda parameters: False)
    sink = Rows()
    recorder = Recorder(lambda tensors: sink, on_fault=fail)
    parameter = nn.Parameter(torch.ones(2))
    optimizer: Any = torch.optim.SGD([parameter], lr=0.1, fused=True)
    detach = hooks.attach(recorder)
    try:
        for found in (0.0, 1.0, 0.0):
            parameter.grad = torch.full((2,), 8.0)
            optimizer.grad_scale, optimizer.found_inf = torch.tensor(4.0), torch.tensor(found)
            optimizer.step()
    finally:
        detach()
    recorder.finish()
    assert [row[0] for row in sink.rows] == [0, 1]
    assert [row[7] for row in sink.rows] == [0, 1]
    assert [row[4] for row in sink.rows] == pytest.approx([math.sqrt(8.0)] * 2)


@given(st.lists(st.floats(-(2.0**120), 2.0**120, width=32), min_size=1, max_size=20))
def test_late_norms_hold_over_the_whole_range_of_float32(values: list[float]) -> None:
    grads = [torch.tensor(values), None, torch.tensor(values[:1], dtype=torch.float64)]
    norms, total = fetched_norms(grads)
    expected, expected_total = gradient_norms(grads)
    assert norms == [None if n is None else pytest.approx(n, rel=1e-6) for n in expected]
    assert total == pytest.approx(expected_total, rel=1e-6)


def test_what_reading_would_wait_for_is_left_out() -> None:
    indices = torch.tensor([[0, 0]])
    sparse = torch.sparse_coo_tensor(indices, torch.ones(2), (3,), check_invariants=True)
    assert deferred_norms([sparse, None]) == [None, None]


def test_numbers_and_nothing_pass_through_a_fetch() -> None:
    numbers: list[float | Tensor | None] = [1.5, None, torch.tensor([2.0]), torch.tensor(3.0)]
    fetch = Fetch(numbers)
    assert fetch.is_there()
    assert fetch.numbers() == [1.5, None, 2.0, 3.0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_run_on_a_real_device_is_recorded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Linear(4, 1).to(CUDA)
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    norms: list[float] = []
    with gainstage.watch(net, sgd, out=tmp_path / "run"):
        for _ in range(50):
            sgd.zero_grad()
            net(torch.randn(16, 4, device=CUDA)).pow(2).mean().backward()
            norms.append(torch.nn.utils.get_total_norm([p.grad for p in net.parameters()]).item())
            sgd.step()
    steps = gainstage.load(tmp_path / "run").steps
    assert steps["grad_norm"].to_pylist() == pytest.approx(norms, rel=1e-5)
