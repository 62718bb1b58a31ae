"""A watched process and its observer: whatever happens to one of them, the record is whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Ran, Runner, environment
from gainstage import load
from gainstage.channel.identity import ProcessIdentity
from gainstage.channel.place import POINTERS, channels_of

pytestmark = pytest.mark.usefixtures("process_observer")

MODEL = """
import os, signal, sys, torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
x = torch.randn(8, 4)
def train(steps):
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
"""
ENDS = {
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "SIGSEGV": "os.kill(os.getpid(), signal.SIGSEGV)",
    "SIGABRT": "os.abort()",
    "exit code 7": "os._exit(7)",
}


def write(folder: Path, text: str) -> str:
    (folder / "train.py").write_text(MODEL + text)
    return "train.py"


def modules_of(ran: Ran) -> set[str]:
    return set(ran.out.split())


@pytest.mark.parametrize("how", ENDS)
def test_a_training_that_is_killed_loses_no_step_and_is_told_of(
    tmp_path: Path, watched: Runner, how: str
) -> None:
    ran = watched(write(tmp_path, f"train(57)\n{ENDS[how]}\n"))
    run = load(ran.folder)
    assert run.block().step.tolist() == list(range(57))
    assert json.loads((ran.folder / "findings.json").read_text())["steps"] == 57
    assert run.info.exit is not None
    assert how in (run.info.exit.killed or "")
    assert "57 steps" in ran.err
    assert how in ran.err
    assert list(channels_of(ran.folder)) == []
    assert not (ran.folder / POINTERS).exists()


def test_what_ends_in_order_is_not_told_as_killed(tmp_path: Path, watched: Runner) -> None:
    ran = watched(write(tmp_path, "train(5)\n"))
    assert ran.code == 0
    exit_info = load(ran.folder).info.exit
    assert exit_info is not None
    assert exit_info.killed is None


def test_the_process_of_the_training_imports_nothing_of_the_observers(
    tmp_path: Path, watched: Runner
) -> None:
    ran = watched(write(tmp_path, "train(30)\nprint(*sys.modules)\n"))
    assert ran.code == 0, ran.err
    ours = {name for name in modules_of(ran) if name.startswith("gainstage.")}
    assert ours
    rooms = {name.split(".")[1] for name in ours}
    assert not rooms & {"detect", "diagnose", "observe", "show", "prescribe", "lab"}
    assert not modules_of(ran) & {"pyarrow", "rich", "typer", "duckdb", "libcst"}


def test_the_observer_is_no_child_of_the_script(tmp_path: Path, watched: Runner) -> None:
    text = """
train(5)
try:
    print(os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print("no child")
"""
    ran = watched(write(tmp_path, text))
    assert ran.out.split("\n")[0] == "no child"


def test_an_observer_that_is_killed_costs_nothing_of_the_record(
    tmp_path: Path, watched: Runner
) -> None:
    text = """
import json, pathlib, time
from gainstage.channel.control import Control
train(20)
(pointer,) = pathlib.Path("run/observed").glob("*.json")
control = Control.open(pathlib.Path(json.loads(pointer.read_text())["channel"]) / "control")
while not control.observer[0]:
    os.sched_yield()
os.kill(control.observer[0], signal.SIGKILL)
train(20)
"""
    ran = watched(write(tmp_path, text))
    assert ran.code == 0
    assert load(ran.folder).block().step.tolist() == list(range(40))
    assert "40 steps" in ran.err


def test_where_both_were_killed_the_report_recovers_what_they_left(tmp_path: Path) -> None:
    text = """
import json, pathlib
from gainstage.channel.control import Control
train(33)
(pointer,) = pathlib.Path("run/observed").glob("*.json")
control = Control.open(pathlib.Path(json.loads(pointer.read_text())["channel"]) / "control")
while not control.observer[0]:
    os.sched_yield()
os.kill(control.observer[0], signal.SIGSTOP)
train(33)
os.kill(control.observer[0], signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""
    script = write(tmp_path, text)
    command = [sys.executable, "-m", "gainstage"]
    start = [*command, "run", "--out", "run", script]
    options = {"cwd": tmp_path, "env": environment(), "capture_output": True, "text": True}
    died = subprocess.run(start, timeout=240, check=False, **options)
    assert died.returncode == -signal.SIGKILL
    assert list(channels_of(tmp_path / "run"))
    report = subprocess.run([*command, "report", "run"], timeout=240, check=False, **options)
    assert report.returncode == 0, report.stderr
    assert load(tmp_path / "run").block().step.tolist() == list(range(66))
    assert "66 steps" in report.stdout + report.stderr
    assert list(channels_of(tmp_path / "run")) == []


def test_a_thread_of_the_script_can_do_the_observers_work(tmp_path: Path, watched: Runner) -> None:
    script = write(tmp_path, "train(40)\n")
    ran = watched(script, options=("--observer", "thread"))
    assert ran.code == 0, ran.err
    assert load(ran.folder).block().step.tolist() == list(range(40))
    assert "40 steps" in ran.err


def test_children_of_multiprocessing_have_observers_of_their_own(
    tmp_path: Path, watched: Runner
) -> None:
    text = """
import torch.multiprocessing as mp
def work(number):
    train(10 + number)
if __name__ == "__main__":
    mp.start_processes(work, nprocs=2, start_method=sys.argv[1])
    train(3)
"""
    for method in ("spawn", "fork"):
        ran = watched(write(tmp_path, text), method, options=("--out", method))
        assert ran.code == 0, ran.err
        run = load(tmp_path / method)
        assert sorted(len(run.block(rank)) for rank in run.ranks) == [3, 10, 11]
        assert list(channels_of(tmp_path / method)) == []


def test_a_process_is_known_by_more_than_its_number() -> None:
    me = ProcessIdentity.of(os.getpid())
    assert me.is_alive()
    assert not ProcessIdentity(me.pid, me.start + 1).is_alive()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    identity = ProcessIdentity.of(ended.pid)
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    assert not identity.is_alive()  # a zombie
    ended.wait()
    assert not identity.is_alive()
