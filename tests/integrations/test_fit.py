"""One fit, watched: its end, its errors, and several processes that are ranks of one run."""

from __future__ import annotations

import inspect
import multiprocessing
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

import gainstage
from gainstage import ConfigError
from gainstage.attach import session
from gainstage.integrations.fit import FitWatch
from gainstage.integrations.ray import watched


def train(config: dict[str, Any]) -> float:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    sgd = torch.optim.SGD(net.parameters(), lr=config["lr"])
    for _ in range(config["steps"]):
        sgd.zero_grad()
        net(torch.randn(16, 4)).pow(2).mean().backward()
        sgd.step()
    return float(net[0].weight.detach().sum())


def test_a_fit_is_told_of_at_its_end_and_the_next_one_has_a_run_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fit = FitWatch("ours", treat="clip-global-norm:max_norm=0.001")
    with pytest.raises(ConfigError, match="ours has watched nothing yet"):
        _ = fit.findings
    fit.begin()
    train({"lr": 0.1, "steps": 6})
    fit.begin()  # as after an error, of which no callback was told
    first = capsys.readouterr().err
    assert first.count("6 steps in") == 1
    train({"lr": 0.1, "steps": 3})
    fit.end()
    fit.end()
    assert capsys.readouterr().err.count("3 steps in") == 1
    assert session.active is None
    runs = sorted((tmp_path / "gainstage-runs").iterdir())
    assert len(runs) == 2
    assert fit.findings.steps == 3
    assert gainstage.load(runs[0]).block().max_norm.tolist() == [0.001] * 6


def test_within_a_watch_a_fit_adds_nothing_and_says_what_it_leaves_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fit = FitWatch("ours", guard="skip")
    with gainstage.watch(out=tmp_path / "run") as watch:
        fit.begin()
        train({"lr": 0.1, "steps": 4})
        fit.end()
    said = capsys.readouterr().err
    assert f"ours adds nothing, for this process is watched already, into {watch.folder}" in said
    assert "what it was to treat is not treated" in said
    assert "HEALTHY" not in said
    assert watch.findings.steps == 4
    assert not (tmp_path / "gainstage-runs").exists()


def test_a_record_that_is_gone_does_not_fail_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = FitWatch("ours", out=tmp_path / "run")
    fit.begin()
    train({"lr": 0.1, "steps": 2})
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "run").write_text("in its place")
    fit.end()
    assert "gainstage: no summary, RunFolderError" in capsys.readouterr().err
    assert session.active is None


def test_wrong_options_are_refused_when_they_are_given() -> None:
    with pytest.raises(ConfigError, match="no remedy 'leeches'"):
        FitWatch("ours", treat="leeches")


def test_a_folder_that_another_machine_does_not_see_leaves_the_training_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = FitWatch("ours")
    fit.join(tmp_path / "elsewhere")
    assert "name one with out= that all machines share" in capsys.readouterr().err
    assert session.active is None


def in_two_processes(work: Callable[[int], None], store: Path) -> None:
    """Fork two processes that form a process group, and wait for both."""

    def process(rank: int) -> None:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
        work(rank)
        dist.destroy_process_group()

    fork: Any = multiprocessing.get_context("fork")
    forked = [fork.Process(target=process, args=(rank,)) for rank in range(2)]
    for each in forked:
        each.start()
    for each in forked:
        each.join(120)
    assert [each.exitcode for each in forked] == [0, 0]


def test_processes_of_one_fit_are_ranks_of_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def work(rank: int) -> None:
        fit = FitWatch("ours")
        fit.begin()
        train({"lr": 0.1, "steps": 5})
        fit.end()

    in_two_processes(work, tmp_path / "store")
    (folder,) = (tmp_path / "gainstage-runs").iterdir()
    run = gainstage.load(folder)
    assert run.ranks == (0, 1)
    assert [len(run.block(rank)) for rank in run.ranks] == [5, 5]
    assert capfd.readouterr().err.count("HEALTHY") == 1


def test_if_one_process_is_watched_already_the_others_do_not_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def work(rank: int) -> None:
        watch = gainstage.watch(out=tmp_path / "own") if rank == 0 else None
        fit = FitWatch("ours")
        fit.begin()
        train({"lr": 0.1, "steps": 2})
        fit.end()
        if watch is not None:
            watch.stop()

    in_two_processes(work, tmp_path / "store")
    assert not (tmp_path / "gainstage-runs").exists()
    assert gainstage.load(tmp_path / "own").ranks == (0,)


def test_workers_of_ray_train_are_ranks_of_the_run_that_the_driver_has_made(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What Ray does with a loop: it asks the signature, pickles it, and calls it in each worker.

    The trainer itself takes half a minute to start, so it was tried by hand.
    """
    ray = pytest.importorskip("ray")
    with pytest.raises(ConfigError, match="no remedy"):
        watched(train, treat="leeches")
    loop = watched(train, out=tmp_path / "run")
    assert inspect.signature(loop) == inspect.signature(train)

    pickled = ray.cloudpickle.dumps(loop)

    def work(rank: int) -> None:
        value = ray.cloudpickle.loads(pickled)({"lr": 0.1, "steps": 4})
        assert isinstance(value, float)

    in_two_processes(work, tmp_path / "store")
    run = gainstage.load(tmp_path / "run")
    assert run.ranks == (0, 1)
    assert [len(run.block(rank)) for rank in run.ranks] == [4, 4]
    assert run.info.script in (Path(sys.argv[0]).name, "notebook")
    assert capfd.readouterr().err.count("HEALTHY") == 1
