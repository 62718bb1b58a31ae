"""The examples' sick modes, shortened: treated from outside they end finite, bare they do not."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

import pytest

import gainstage
from conftest import Runner
from gainstage.facts.treatment_event import TreatmentState
from script_runs import run_script

EXAMPLES = Path(__file__).parents[2] / "examples"
SICK = {
    "char_rnn.py": ["--gain", "1.3", "--steps", "20", "--batch", "4", "--hidden", "32"],
    "deep_mlp.py": ["--init", "normal", "--steps", "5", "--batch", "16"],
    "tiny_gpt.py": [
        *("--lr", "300", "--warmup", "0", "--clip", "0"),
        *("--steps", "6", "--batch", "4", "--context", "32"),
    ],
}
CURES = [
    ("char_rnn.py", "clip-global-norm"),
    ("char_rnn.py", "clip-global-norm:norm_type=inf,max_norm=0.1"),
    ("char_rnn.py", "clip-global-norm:per=parameter"),
    ("char_rnn.py", "clip-global-norm:per=group"),
    ("char_rnn.py", "clip-value:value=0.01"),
    ("char_rnn.py", "clip-adaptive:kind=agc"),
    ("char_rnn.py", "clip-adaptive:kind=autoclip"),
    ("char_rnn.py", "clip-adaptive:kind=zclip,max_norm=1"),
    ("char_rnn.py", "clip-adaptive:kind=update,rms=0.01"),
    ("char_rnn.py", "reinit"),
    ("char_rnn.py", "reinit:kind=orthogonal"),
    ("char_rnn.py", "reinit:kind=xavier"),
    ("char_rnn.py", "lower-lr:factor=0.001"),
    ("deep_mlp.py", "reinit:kind=he"),
    ("deep_mlp.py", "reinit:kind=lsuv"),
    ("deep_mlp.py", "reinit:kind=identity"),
    ("deep_mlp.py", "reinit:kind=residual"),
    ("deep_mlp.py", "insert-norm:kind=layer"),
    ("deep_mlp.py", "insert-norm:kind=rms"),
    ("deep_mlp.py", "insert-norm:kind=batch"),
    ("tiny_gpt.py", "clip-adaptive:kind=update,rms=0.01"),
    ("tiny_gpt.py", "lower-lr:factor=0.001"),
    ("tiny_gpt.py", "warm-up:steps=100"),
]


def final_loss(
    name: str,
    treat: tuple[str, ...],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> float:
    path = str(EXAMPLES / name)
    monkeypatch.setattr(sys, "argv", [path, *SICK[name]])
    with gainstage.watch(out=folder, treat=treat) as watch:
        run_script(path)
        assert not watch._session.recorder.boundary.has_failed
    (loss,) = re.findall(r"final_loss=(\S+)", capsys.readouterr().out)
    return float(loss)


@pytest.mark.parametrize("name", SICK)
def test_the_bare_run_does_not_end_finite(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert math.isnan(final_loss(name, (), tmp_path / "run", monkeypatch, capsys))


@pytest.mark.parametrize(("name", "treat"), CURES)
def test_the_treated_run_ends_finite(
    name: str,
    treat: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert math.isfinite(final_loss(name, (treat,), tmp_path / "run", monkeypatch, capsys))


def test_several_treatments_from_the_command_line(watched: Runner) -> None:
    ran = watched(
        *(str(EXAMPLES / "deep_mlp.py"), *SICK["deep_mlp.py"], "--print-every", "1"),
        options=("--treat", "reinit:kind=he", "--treat", "clip-global-norm:max_norm=1,from=2"),
    )
    assert ran.code == 0, ran.err
    assert float(ran.out.rsplit("=", 1)[1]) < 3
    run = gainstage.load(ran.folder)
    assert run.block().skipped.tolist() == [-1, 0, 0, 0, 0]
    assert run.block().max_norm.tolist()[2:] == [1.0, 1.0, 1.0]
    assert math.isnan(run.block().max_norm[1])
    assert run.info.treat == ("reinit:kind=he", "clip-global-norm:max_norm=1,from=2")
    ended = [each for each in run.treatments if isinstance(each, TreatmentState)]
    assert [each.touched for each in ended if each.event == "ended"] == [1, 3]


def test_a_treatment_that_cannot_be_is_refused_before_the_script_begins(watched: Runner) -> None:
    ran = watched(str(EXAMPLES / "deep_mlp.py"), options=("--treat", "reinit:kind=nice"))
    assert ran.code == 2
    assert "kind must be one of auto, he, xavier" in ran.err
    assert ran.out == ""
