"""`gainstage check`: real scripts, stopped before their first update."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from conftest import Ran, finish

EXAMPLES = Path(__file__).parents[2] / "examples"


def check(*arguments: str, cwd: Path) -> Ran:
    return finish([sys.executable, "-m", "gainstage", "check", *arguments], cwd)


def test_a_sick_perceptron_is_named_with_layer_and_initialisation(tmp_path: Path) -> None:
    ran = check(str(EXAMPLES / "deep_mlp.py"), "--init", "normal", cwd=tmp_path)
    assert (ran.code, ran.err) == (3, "")
    assert "TROUBLE" in ran.out
    assert "N(0,1) in 9 of 10 weights before relu: rms 1 should be 0.18 (He)" in ran.out
    assert "fp16 overflows in" in ran.out
    assert "15.weight, layer 6 forward" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    assert "final_loss" not in ran.out
    assert list(tmp_path.iterdir()) == []


def test_a_healthy_perceptron_is_told_as_json(tmp_path: Path) -> None:
    ran = check("--json", "--out", "kept", str(EXAMPLES / "deep_mlp.py"), cwd=tmp_path)
    found = json.loads(ran.out)
    assert ran.code == 0
    assert (found["schema"], found["verdict"]) == ("gainstage.check/1", "healthy")
    assert len(found["layers"]) == 10
    assert abs(found["forward_slope_bits"]) < 0.5
    assert found["sharpness"]["optimizer"] == "SGD"
    assert (tmp_path / "kept" / "readings.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["char_rnn.py"], 0, "HEALTHY"),
        (["char_rnn.py", "--gain", "1.2"], 3, "bits a time step over 100"),
        (["tiny_gpt.py"], 0, "sharpness not measured: derivative for"),
    ],
)
def test_recurrent_and_attention_networks(
    arguments: list[str], code: int, said: str, tmp_path: Path
) -> None:
    steps = ["--steps", "5"] if code else []
    script, *own = arguments
    ran = check(*steps, str(EXAMPLES / script), *own, cwd=tmp_path)
    assert ran.code == code
    assert said in ran.out


def test_nothing_of_the_script_runs_after_the_step(tmp_path: Path) -> None:
    (tmp_path / "hostile.py").write_text(
        """
import atexit, pathlib, torch
from torch.utils.data import DataLoader
atexit.register(lambda: pathlib.Path("exit").touch())
w = torch.nn.Parameter(torch.ones(4))
optimizer = torch.optim.SGD([w], lr=0.1)
if __name__ == "__main__":
    loader = DataLoader(torch.ones(64, 4), batch_size=4, num_workers=2)
    try:
        for x in loader:
            loss = (x * w).square().mean()
            loss.backward()
            optimizer.step()
            pathlib.Path("stepped").touch()
    except BaseException:
        pathlib.Path("caught").touch()
    finally:
        pathlib.Path("finally").touch()
    print("end")
"""
    )
    ran = check("hostile.py", cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert "end" not in ran.out.split()
    assert "HEALTHY" in ran.out
    assert [each.name for each in tmp_path.iterdir()] == ["hostile.py"]


@pytest.mark.parametrize(
    ("source", "code", "said"),
    [
        ("raise RuntimeError('own fault')", 1, "RuntimeError: own fault"),
        ("raise SystemExit(7)", 7, ""),
        ("print('nothing')", 2, "ended without an optimizer step or backward call"),
    ],
)
def test_a_script_that_comes_to_no_step_keeps_its_error(
    source: str, code: int, said: str, tmp_path: Path
) -> None:
    (tmp_path / "script.py").write_text(source)
    ran = check("script.py", cwd=tmp_path)
    assert ran.code == code
    assert said in ran.err
    assert "HEALTHY" not in ran.out


def test_a_missing_script_is_one_line(tmp_path: Path) -> None:
    ran = check("missing.py", cwd=tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.strip().splitlines()) == 1
