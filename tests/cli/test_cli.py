from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Runner, environment, finish

pytestmark = pytest.mark.usefixtures("process_observer")

EXPLODES = """
import torch
w = torch.full((4,), 2.0, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=1.0)
for step in range(40):
    loss = w.pow(4).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print("final", loss.item())
"""


def gainstage(*arguments: str, cwd: Path, stdin: str = "") -> tuple[int, str, str]:
    ran = finish([sys.executable, "-m", "gainstage", *arguments], cwd, stdin=stdin)
    return ran.code, ran.out, ran.err


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "explodes.py"
    path.write_text(EXPLODES)
    return path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.py"], "no such script: 'missing.py'"),
        (["broken.py"], "broken.py:2: "),
        (["-m", "no_such_module"], "no module named 'no_such_module'"),
        (
            ["--treat", "bloodletting", "explodes.py"],
            "no remedy 'bloodletting'; there are code-change",
        ),
        (["--treat", "clip-global-norm:limit=1", "explodes.py"], "has no setting 'limit'"),
        (["--treat", "clip-global-norm:max_norm=0", "explodes.py"], "max_norm must be above 0"),
        (["--treat", "lower-lr:factor=x", "explodes.py"], "factor must be a number, got 'x'"),
        (["--budget", "much", "explodes.py"], "--budget must be above 0%"),
        (["--fail-on", "often", "explodes.py"], "--fail-on must be warning or critical"),
        (["--out", "explodes.py/below", "explodes.py"], "cannot make the run folder"),
        (["--out", ".", "explodes.py"], "is not empty"),
    ],
)
def test_a_mistake_is_one_clear_line_and_exit_code_2(
    arguments: list[str], said: str, script: Path
) -> None:
    (script.parent / "broken.py").write_text("print('never')\nif True print('x')\n")
    code, out, err = gainstage("run", *arguments, cwd=script.parent)
    assert code == 2
    assert out == ""
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_an_exploding_run_is_seen_told_and_reported(script: Path, watched: Runner) -> None:
    ran = watched("explodes.py")
    assert (ran.code, ran.out) == (0, "final nan\n")
    assert "FAILED at step" in ran.err
    summary = ran.err[ran.err.index(" gainstage   ") :].splitlines()
    # A command is never cut.
    assert max(len(line) for line in summary if "gainstage " not in line[8:]) <= 80
    code, out, _ = gainstage("report", "run", "--json", cwd=script.parent)
    found = json.loads(out)
    assert code == 0
    assert found["schema"] == "gainstage.findings/1"
    assert (found["verdict"], found["steps"]) == ("failed", 40)
    assert found["diagnosis"]["failure_step"] == 3
    assert {"loss-nonfinite", "gradient-nonfinite"} <= {s["symptom"] for s in found["symptoms"]}
    assert json.loads((ran.folder / "findings.json").read_text()) == found
    code, out, _ = gainstage("report", "run", cwd=script.parent)
    assert "FAILED at step" in out


def test_fail_on_makes_the_exit_code_3(script: Path, watched: Runner) -> None:
    assert watched("explodes.py", options=("--fail-on", "critical")).code == 3


def test_a_treatment_saves_the_run_and_is_recorded(script: Path, watched: Runner) -> None:
    ran = watched("explodes.py", options=("--treat", "clip-global-norm:max_norm=0.5"))
    assert "final nan" not in ran.out
    lines = [
        json.loads(line) for line in (ran.folder / "treatments.jsonl").read_text().split("\n")[:-1]
    ]
    assert [line["event"] for line in lines] == ["started", "ended"]
    assert lines[-1]["settings"] == {"max_norm": 0.5, "norm_type": 2.0, "per": "all"}
    assert lines[-1]["touched"] > 0
    assert "treated clip-global-norm:max_norm=0.5" in ran.err


@pytest.mark.parametrize("folder", ["nowhere", "empty", "explodes.py"])
def test_a_report_of_what_is_no_run_says_so(folder: str, script: Path) -> None:
    (script.parent / "empty").mkdir()
    code, out, err = gainstage("report", folder, cwd=script.parent)
    assert (code, out) == (2, "")
    assert folder in err


def test_a_run_that_is_killed_can_be_reported_on(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(
        EXPLODES.replace("lr=1.0", "lr=1e-6").replace("range(40)", "range(10**9)")
    )
    command = [sys.executable, "-m", "gainstage", "run", "--out", "run", "endless.py"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment())
    live = tmp_path / "run" / "steps" / "rank=0" / "live.arrows"
    while not live.exists() or live.stat().st_size < 100_000:
        assert process.poll() is None
        os.sched_yield()
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    code, out, _ = gainstage("report", "run", cwd=tmp_path)
    assert code == 0
    assert "endless.py" in out
    code, out, _ = gainstage("report", "run", "--json", cwd=tmp_path)
    assert json.loads(out)["steps"] > 100


def test_a_folder_that_vanishes_never_stops_training(tmp_path: Path, watched: Runner) -> None:
    (tmp_path / "vanish.py").write_text(
        "import shutil\n"
        + EXPLODES.replace("range(40)", "range(3000)").replace("lr=1.0", "lr=1e-6")
        + "shutil.rmtree('run')\nprint('done')\n"
    )
    ran = watched("vanish.py")
    assert ran.code == 0
    assert ran.out.endswith("done\n")
    assert "Traceback" not in ran.err


def test_help_names_every_option() -> None:
    code, out, _ = gainstage("run", "--help", cwd=Path.cwd())
    assert code == 0
    for option in ("--out", "--treat", "--budget", "--fail-on", "--strict", "-m"):
        assert option in out
