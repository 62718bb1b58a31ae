"""`gainstage prescribe` as a user types it."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from conftest import Ran, environment, finish
from gainstage import load
from gainstage.store.json_schemas import schema_text

SICK = """\
import argparse
import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=4.0)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--endless", action="store_true")
args = parser.parse_args()
torch.manual_seed(args.seed)
x = torch.randn(64, 8)
y = x.square().sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=args.lr)
step = 0
while step < 60 or args.endless:
    loss = (model(x) - y).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    step += 1
    if args.endless and not loss.isfinite():
        raise SystemExit("it diverged")
    if args.endless and step == 40:
        with open("alive", "w") as pipe:
            pipe.write("!")
print(f"final_loss={loss.item()!r}")
"""


UNBOUNDED = """\
import torch
from torch import nn

torch.manual_seed(0)
critic = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.SGD(critic.parameters(), lr=0.012)
for step in range(160):
    real, made = torch.randn(64, 2) + 1, torch.randn(64, 2)
    loss = critic(made).mean() - critic(real).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"final_loss={loss.item()}")
"""


def prescribe(cwd: Path, *arguments: str) -> Ran:
    return finish([sys.executable, "-m", "gainstage", "prescribe", *arguments], cwd)


def script(folder: Path, text: str = SICK) -> Path:
    path = folder / "train.py"
    path.write_text(text)
    return path


def test_a_sick_script_is_repaired_confirmed_and_patched(tmp_path: Path) -> None:
    path = script(tmp_path)
    ran = prescribe(tmp_path, "--trials", "3", "train.py", "--json")
    assert ran.code == 0, ran.err
    found: dict[str, Any] = json.loads(ran.out)
    assert path.read_text() == SICK
    Draft202012Validator(json.loads(schema_text("prescription"))).validate(found)
    assert found["baseline"]["outcome"] == "dead"
    assert len(found["trials"]) == 3
    best = found["best"]
    assert set(best) >= {"remedy", "settings", "final_loss", "why"}
    assert 0 < best["final_loss"] < 20
    assert (best["confirmed"], best["confirmed_by"]) == (True, "second seed")
    folder = Path(found["folder"])
    assert folder.parent == tmp_path / "gainstage-runs"
    assert folder.name.endswith("-train-prescribe")
    assert json.loads((folder / "prescription.json").read_text()) == found
    assert {each["name"] for each in found["trials"]} <= {each.name for each in folder.iterdir()}
    assert "gainstage: 00-baseline dead after 60 steps" in ran.err

    patched = ["patch", "-p1"]
    subprocess.run(patched, cwd=tmp_path, input=found["diff"], text=True, check=True)
    ran = finish([sys.executable, "train.py"], tmp_path)
    (loss,) = re.findall(r"final_loss=(\S+)", ran.out)
    # Equal bits but where torch's own clip rounds its factor otherwise than the treatment.
    assert abs(float(loss) - best["final_loss"]) < 1e-3 * best["final_loss"]


def test_the_diff_is_run_before_it_is_given(tmp_path: Path) -> None:
    script(tmp_path)
    ran = prescribe(tmp_path, "--trials", "4", "train.py", "--json")
    found = json.loads(ran.out)
    *_, last = found["trials"]
    assert last["why"] == f"the diff of {found['best']['trial']}"
    assert found["diff_final_loss"] == last["final_loss"]
    assert abs(last["final_loss"] - found["best"]["final_loss"]) < 1e-3
    assert "the diff was run: it ends at " in ran.err
    Draft202012Validator(json.loads(schema_text("prescription"))).validate(found)


def test_a_diff_that_does_not_repair_is_not_given(tmp_path: Path) -> None:
    # What the edit writes is overwritten by the script a line later.
    made = "optimizer = torch.optim.SGD(model.parameters(), lr=args.lr)\n"
    script(tmp_path, SICK.replace(made, f"{made}optimizer.param_groups[0].update(lr=args.lr)\n"))
    ran = prescribe(tmp_path, "--trials", "4", "train.py", "--lr", "4000", "--json")
    found = json.loads(ran.out)
    assert found["best"]["remedy"] == "lower-lr"
    assert (found["diff"], found["diff_final_loss"]) == (None, None)
    assert found["trials"][-1]["outcome"] == "dead"
    assert "the edit was tried and failed: patched.py beside the records" in found["instruction"]
    assert (Path(found["folder"]) / "patched.py").is_file()


def test_a_healthy_script_has_nothing_to_treat(tmp_path: Path) -> None:
    script(tmp_path)
    ran = prescribe(tmp_path, "train.py", "--lr", "0.01", "--json")
    found = json.loads(ran.out)
    assert (found["best"], found["diff"], found["trials"]) == (None, None, [])
    assert found["said"] == "the run is healthy: there is nothing to treat"
    assert found["baseline"]["verdict"] == "healthy"


def test_where_nothing_helps_there_is_no_best_and_the_failures_are_told(tmp_path: Path) -> None:
    script(tmp_path, SICK.replace("torch.randn(64, 8)", "torch.randn(64, 8) / 0 * 0"))
    ran = prescribe(tmp_path, "--trials", "2", "--diff", "train.py")
    assert ran.code == 0, ran.err
    assert ran.out == ""
    assert "none of 1 trials ended better than the run as it is" in ran.err
    assert len(re.findall(r" dead ", ran.err)) >= 2


def test_a_script_that_does_not_train_is_one_clear_line(tmp_path: Path) -> None:
    script(tmp_path, "import sys\nsys.exit('no such data')\n")
    ran = prescribe(tmp_path, "train.py")
    assert ran.code == 2
    assert "train.py ended with exit code 1 before it made a step: no such data" in ran.err
    ran = prescribe(tmp_path, "--trials", "0", "train.py")
    assert (ran.code, ran.err) == (2, "gainstage: --trials must be at least 1, got 0\n")
    ran = prescribe(tmp_path, "--executor", "mars", "train.py")
    assert (ran.code, ran.err.count("\n")) == (2, 1)


def test_ctrl_c_ends_all_trials_and_tells_what_is_known(tmp_path: Path) -> None:
    script(tmp_path)
    os.mkfifo(tmp_path / "alive")
    alive = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    command = [sys.executable, "-m", "gainstage", "prescribe", "train.py", "--endless", "--json"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # A trial that lives says so at its 40th step; the untreated run never gets there.
    began, _, _ = select.select([alive], [], [], 200)
    os.close(alive)
    assert began
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=200)
    found = json.loads(out)
    assert process.returncode == 130, err
    assert found["trials"]
    assert found["trials"][0]["outcome"] in ("stopped", "dead", "crashed")
    assert "interrupted" in found["said"]
    left = [each for each in Path("/proc").glob("[0-9]*/cwd") if _target(each) == str(tmp_path)]
    assert left == []


def _target(link: Path) -> str | None:
    try:
        return os.readlink(link)
    except OSError:
        return None


def test_the_lowest_value_of_an_objective_without_a_bound_wins_nothing(tmp_path: Path) -> None:
    script(tmp_path, UNBOUNDED)
    ran = prescribe(tmp_path, "--trials", "2", "--json", "train.py")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert found["baseline"]["cause"] == "unbounded-objective"
    assert found["baseline"]["final_loss"] < -1e6
    assert found["best"]["final_loss"] > -100
    assert load(Path(found["folder"]) / found["best"]["trial"]).findings.verdict == "healthy"
    assert "the cause: bound the objective" in ran.err
