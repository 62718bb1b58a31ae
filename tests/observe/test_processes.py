"""Runs of several processes: forks, ranks and children, some of which die. Each has its record."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from conftest import Runner
from gainstage import load
from gainstage.channel.place import channels_of

pytestmark = pytest.mark.usefixtures("process_observer")

MODEL = """
import os, signal, sys
import torch
from torch import nn
import torch.multiprocessing as mp

def trainer():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    def train(steps, factor=1.0):
        for _ in range(steps):
            optimizer.zero_grad()
            (model(torch.ones(8, 4)).square().mean() * factor).backward()
            optimizer.step()
    return train
"""


def write(folder: Path, text: str) -> str:
    (folder / "train.py").write_text(MODEL + text)
    return "train.py"


def steps_of(folder: Path) -> dict[int, int]:
    """Return how many steps each process has, once all observers of the run have ended."""
    until = time.monotonic() + 60
    while list(channels_of(folder)) and time.monotonic() < until:
        os.sched_yield()
    assert list(channels_of(folder)) == []
    run = load(folder)
    assert run.damage == ()
    return {rank: len(run.block(rank)) for rank in run.ranks}


def test_a_forked_child_that_trains_is_a_process_of_the_run_and_no_rank(
    tmp_path: Path, bare: Runner, watched: Runner
) -> None:
    text = """
train = trainer()
train(3)
sys.stdout.flush()
if os.fork() == 0:
    train(4)
    train(1, float("nan"))
    print("the child")
    sys.stdout.flush()
    os._exit(0)
print(os.wait()[1])
train(2)
"""
    script = write(tmp_path, text)
    alone, ran = bare(script), watched(script)
    assert (ran.code, ran.out) == (alone.code, alone.out)
    assert steps_of(ran.folder) == {0: 5, 1: 5}
    assert load(ran.folder).info.world_size is None
    assert "5 steps of 2 processes" in ran.err
    assert "gainstage: process 1 step 4: " in ran.err
    assert "rank" not in ran.err


def test_a_fork_of_a_rank_takes_no_other_ranks_place(tmp_path: Path, watched: Runner) -> None:
    text = """
os.environ["RANK"], os.environ["WORLD_SIZE"] = "0", "3"
train = trainer()
train(3)
if os.fork() == 0:
    train(4)
    os._exit(0)
print(os.wait()[1])
"""
    ran = watched(write(tmp_path, text))
    assert ran.code == 0, ran.err
    assert steps_of(ran.folder) == {0: 3, 3: 4}
    assert load(ran.folder).info.world_size == 3


def test_a_spawned_child_that_dies_leaves_all_its_steps(
    tmp_path: Path, bare: Runner, watched: Runner
) -> None:
    text = """
def work(number):
    trainer()(10 + number)
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    children = [mp.get_context("spawn").Process(target=work, args=(n,)) for n in range(2)]
    for child in children:
        child.start()
        child.join()
    trainer()(3)
    print([child.exitcode for child in children])
"""
    script = write(tmp_path, text)
    alone, ran = bare(script), watched(script)
    assert (ran.code, ran.out) == (alone.code, alone.out) == (0, "[0, -9]\n")
    assert sorted(steps_of(ran.folder).values()) == [3, 10, 11]


def test_of_a_rank_that_is_killed_the_record_is_whole_and_the_others_are_ended(
    tmp_path: Path, bare: Runner, watched: Runner
) -> None:
    text = """
import torch.distributed as dist
dist.init_process_group("gloo")
train, rank = trainer(), dist.get_rank()
train(7)
dist.barrier()
if rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
while True:  # until the launcher ends it
    train(1)
"""
    script = write(tmp_path, text)
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script)
    alone, ran = bare(*launch), watched(*launch)
    assert ran.code == alone.code == 1, ran.err
    steps = steps_of(ran.folder)
    assert steps.keys() == {0, 1}
    assert steps[1] == 7
    assert steps[0] >= 7
    assert load(ran.folder).info.world_size == 2
    assert json.loads((ran.folder / "findings.json").read_text())["steps"] == steps[0]
    assert f"{steps[0]:,} steps on 2 ranks" in ran.err
