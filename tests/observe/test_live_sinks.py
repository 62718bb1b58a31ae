"""`gainstage run --sink`: numbers arrive while it runs, and the run is the one it would be."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from conftest import Runner
from gainstage.facts.run_info import RunInfo
from gainstage.facts.tensor import TensorInfo
from gainstage.observe.sinks import LiveSinks
from gainstage.store.blocks import to_block
from gainstage.store.folder import create_run_folder

pytestmark = pytest.mark.usefixtures("process_observer")

SCRIPT = """
import os
import sys
import torch
torch.manual_seed(0)
w = torch.randn(4).requires_grad_()
optimizer = torch.optim.SGD([w], lr=1.0)
for step in range(40):
    loss = w.pow(4).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
os.chdir("/")
print(loss.item(), torch.rand(1).item(), "mlflow" in sys.modules, "wandb" in sys.modules,
      any(name.startswith("tensorboard") for name in sys.modules))
sys.exit(7)
"""


def test_live_sinks_get_all_steps_and_the_run_keeps_its_bits(
    tmp_path: Path, bare: Runner, watched: Runner
) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "tensorboard.py").write_text("raise SystemExit('no package')")
    (tmp_path / "file").write_text("")
    sinks = ("csv:live.csv", "tensorboard:board", "openmetrics:m.txt", "csv:file/x.csv")
    options = tuple(part for sink in sinks for part in ("--sink", sink))
    ran, alone = watched("train.py", options=options), bare("train.py")
    assert (ran.code, ran.out) == (alone.code, alone.out)
    assert ran.code == 7
    assert ran.out.split()[2:] == ["False", "False", "False"]
    assert ran.err.count("is dropped, training goes on") == 1
    assert "file/x.csv is dropped, training goes on: " in ran.err
    with (tmp_path / "live.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(40))
    assert math.isnan(float(rows[-1]["loss"]))
    assert math.isnan(float(rows[-1]["grad_norm/w"]))
    board = EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    assert len(board.Scalars("gainstage/grad_norm")) == 40
    assert board.Tensors("gainstage/loss-nonfinite")
    metrics = (tmp_path / "m.txt").read_text()
    assert "gainstage_step 39\n" in metrics
    assert 'symptom="loss-nonfinite",severity="critical"' in metrics


def test_a_dropped_sink_makes_the_sinks_incomplete(tmp_path: Path) -> None:
    folder = create_run_folder(tmp_path / "run", RunInfo(script="train.py"))
    (tmp_path / "file").write_text("")
    said: list[str] = []
    sinks = LiveSinks([f"csv:{tmp_path / 'file' / 'x.csv'}"], folder, warn=said.append)
    sinks.close()
    # The process has said which and why, so there is no second line.
    assert (said, sinks.is_complete) == ([], False)


def test_a_wrong_sink_is_one_line_before_the_run(tmp_path: Path, watched: Runner) -> None:
    (tmp_path / "train.py").write_text("print('never')")
    ran = watched("train.py", options=("--sink", "excel:x"))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.count("\n") == 1
    assert not ran.folder.exists()


def test_a_process_that_cannot_start_costs_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = create_run_folder(tmp_path / "run", RunInfo(script="train.py"))
    said: list[str] = []
    monkeypatch.setattr("sys.executable", str(tmp_path / "no-python"))
    sinks = LiveSinks([f"csv:{tmp_path / 'a.csv'}"], folder, warn=said.append)
    block = to_block([(0, 0.0, 1.0, None, 1.0, None, None, 0, [1.0])], 1)
    sinks.take([TensorInfo("w", None, (), "float32")], block, [])
    sinks.close()
    assert said == ["the sinks are incomplete: No such file or directory"]
    assert not sinks.is_complete


def test_the_sinks_are_closed_when_the_training_is_killed(tmp_path: Path, bare: Runner) -> None:
    folder = create_run_folder(tmp_path / "run", RunInfo(script="train.py"))
    code = f"""
import os, signal
from pathlib import Path
from gainstage.observe.sinks import LiveSinks
from gainstage.facts.tensor import TensorInfo
from gainstage.store.blocks import to_block
path = Path({str(tmp_path / "a.csv")!r})
sinks = LiveSinks([f"csv:{{path}}"], Path({str(folder)!r}), warn=print)
block = to_block([(0, 0.0, 1.0, None, 1.0, None, None, 0, [1.0])], 1)
sinks.take([TensorInfo("w", None, (), "float32")], block, [])
while not path.exists() or "0,0.0,1.0" not in path.read_text():
    os.sched_yield()
os.kill(os.getpid(), signal.SIGKILL)
"""
    ran = bare("-c", code)
    assert ran.code == -9
    # The process with the sinks holds the same standard error, so that it has ended too.
    assert (tmp_path / "a.csv").read_text().count("\n") == 2
    assert json.loads((folder / "run.json").read_text())["ended"] is None
