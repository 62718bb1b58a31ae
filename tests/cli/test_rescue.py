"""Black box, rescue, replay and guards as a person uses them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import Ran, Runner
from gainstage import cli
from gainstage.store.blackbox import BLACKBOX_SCHEMA

pytestmark = pytest.mark.usefixtures("process_observer")

TRAINS = """
import atexit, hashlib, os, sys, torch
from torch import nn

atexit.register(lambda: print("left by its own exit handler"))
torch.manual_seed(0)
layers = [nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2)]
model = nn.Sequential(*layers)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
first = 0
if os.path.exists("run/rescue.pt"):
    saved = torch.load("run/rescue.pt", weights_only=True)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"][0])
    torch.set_rng_state(saved["rng"]["torch"])
    first = saved["step"] + 1
for step in range(first, 40):
    x = torch.randn(16, 4)
    if step == 23 or (step > 23 and "worse" in sys.argv):
        x[3, 2] = float("nan")
    loss = model(x).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step == 23 and "raises" in sys.argv:
        raise ValueError("loss is nan")
digest = hashlib.sha256()
for each in model.state_dict().values():
    digest.update(each.numpy().tobytes())
print("ended at", loss.item(), digest.hexdigest())
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "trains.py"
    path.write_text(TRAINS)
    return path


def gainstage(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_a_run_that_stops_is_rescued_and_trains_on_as_one_that_skipped(
    script: Path, watched: Runner, bare: Runner, tmp_path: Path
) -> None:
    stopped = watched("trains.py", options=("--guard", "stop"))
    assert stopped.code == 3
    assert stopped.out == "left by its own exit handler\n"
    assert "step 23: stopped by guard stop: a gradient is not finite" in stopped.err
    assert "FAILED at step 23" in stopped.err
    assert "saved   weights, optimizer and RNG state from before step 23" in stopped.err
    assert (stopped.folder / "rescue.pt").exists()
    resumed = bare("trains.py")
    command = ["-m", "gainstage", "run", "--out", "control", "--guard", "skip", "trains.py"]
    (stopped.folder / "rescue.pt").unlink()
    control = bare(*command)
    assert "ended at" in control.out
    assert resumed.out == control.out
    lines = (tmp_path / "control" / "treatments.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["started", "skipped", "ended"]


def test_a_run_that_died_is_rescued_afterwards(
    script: Path, watched: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: Ran = watched("trains.py", "raises")
    assert ran.code == 1
    assert f"gainstage rescue {ran.folder.name}" in ran.err
    code, out, _ = gainstage(capsys, "rescue", str(ran.folder))
    assert code == 0
    assert "the training before step 23, all weights finite" in out
    assert "note: running statistics of batch norm were poisoned" in out
    loads = [line.strip() for line in out.splitlines() if line.startswith("    ")]
    assert loads == [
        f"saved = torch.load('{ran.folder}/rescue.pt', weights_only=True)",
        "model.load_state_dict(saved['model'])",
        "optimizer.load_state_dict(saved['optimizer'][0])",
    ]
    code, out, err = gainstage(capsys, "replay", str(ran.folder))
    assert (code, err) == (0, "")
    assert out.startswith("step 23 ")
    assert "is not finite again" in out
    code, _, err = gainstage(capsys, "rescue", str(ran.folder), "--out", f"{script}/no/file.pt")
    assert code == 2
    assert "cannot write" in err
    assert len(err.strip().splitlines()) == 1


def test_a_loop_of_rollbacks_ends(script: Path, watched: Runner) -> None:
    ran = watched("trains.py", "worse", options=("--guard", "rollback:to=5"))
    assert ran.code == 3
    assert "at the same place after 3 rollbacks" in ran.err
    assert "ended at" not in ran.out


@pytest.mark.parametrize(
    ("box", "said"),
    [
        (None, "has no black box; nothing failed while it was watched"),
        ("", "is damaged"),
        ("[]", "its schema must be gainstage.blackbox/1"),
        (json.dumps({"schema": BLACKBOX_SCHEMA}), "is damaged"),
    ],
)
def test_what_cannot_be_rescued_is_one_clear_line_and_exit_code_2(
    box: str | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if box is not None:
        folder = tmp_path / "blackbox" / "step-000003"
        folder.mkdir(parents=True)
        (folder / "blackbox.json").write_text(box)
    code, out, err = gainstage(capsys, "rescue", str(tmp_path))
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--guard", "pray"], "--guard 'pray': no guard 'pray'; there are off, skip, stop"),
        (["--guard", "rollback:to=0"], "to must be a whole number above 0"),
        (["--blackbox-limit", "big"], "--blackbox-limit must be a size such as 1GB"),
    ],
)
def test_a_mistaken_option_is_one_clear_line(
    arguments: list[str], said: str, script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = gainstage(capsys, "run", *arguments, str(script))
    assert (code, out) == (2, "")
    assert said in err


def test_without_a_box_a_stop_says_that_nothing_was_saved(script: Path, watched: Runner) -> None:
    ran = watched("trains.py", options=("--blackbox-limit", "0", "--guard", "stop"))
    assert ran.code == 3
    assert "no checkpoint was made: " in ran.err
    assert not (ran.folder / "blackbox").exists()
