"""`gainstage watch`: a run's folder followed from outside, as it grows."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyte
import pytest

from conftest import environment, finish
from gainstage.cli import main
from gainstage.facts.run_info import RunInfo
from gainstage.facts.tensor import TensorInfo
from gainstage.show.serve.run_index import RunIndex
from gainstage.show.watch import follow
from gainstage.show.watch_frame import ModuleLevel, bar, frame_text, levels_of, read_frame
from gainstage.store.folder import claim_rank, create_run_folder, update_run_info
from gainstage.store.journal import append_line
from recorded import large_run
from row_recorder import RowRecorder

HOSTILE = "\x1b]0;owned\x07\x1b[2J[red]evil[/]"


class Growing:
    """A run that gains 1 bit a step, written a few steps at a time."""

    def __init__(self, folder: Path, modules: int = 2) -> None:
        self.folder = create_run_folder(folder, RunInfo(script="train.py", argv=("train.py",)))
        names = [HOSTILE, *(f"layers.{i}" for i in range(1, modules))]
        self.tensors = [
            TensorInfo(f"{name}.{part}", name, (4,), "float32")
            for name in names
            for part in ("weight", "bias")
        ]
        self.writer = RowRecorder(
            self.folder, claim_rank(self.folder, None), self.tensors, warn=print
        )
        self.step = 0

    def grow(self, steps: int) -> None:
        for _ in range(steps):
            norms = [2.0**self.step, *([0.25] * (len(self.tensors) - 1))]
            total = math.sqrt(sum(each**2 for each in norms))
            row = (self.step, 1e9 + self.step, 2.5, 0.01, total, None, None, 0, norms)
            self.writer.append(row)
            self.step += 1
        self.writer.flush()

    def alarm(self, name: str, severity: str, message: str) -> None:
        line = {"symptom": name, "severity": severity, "step": self.step, "message": message}
        append_line(self.folder / "symptoms.jsonl", {**line, "evidence": {"dtype": "float32"}})

    def end(self) -> None:
        self.writer.close()
        update_run_info(self.folder, ended="2026-01-01T00:00:00+00:00")


def in_turn(*acts: Callable[[], None]) -> Callable[[float], None]:
    """Return a wait that does one thing after the other, instead of waiting."""
    rest = iter(acts)
    return lambda _: next(rest)()


def test_a_frame_has_levels_headroom_forecast_and_symptoms_in_80_columns(tmp_path: Path) -> None:
    run = Growing(tmp_path / "run", modules=40)
    run.grow(40)
    run.alarm("overflow-forecast", "warning", f"{HOSTILE} grows")
    frame = read_frame(run.folder, now=1e9 + 39)
    text = frame_text(frame).plain
    lines = text.split("\n")
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "step 39   loss 2.5   lr 0.01   1 steps/s" in text
    assert "of float32 at step 128 (125 to 131), in 89 s" in text
    assert lines[0].rstrip().endswith("WARNING")
    assert "+39.0 bits, 89 left of float32" in text
    assert "[red]" in text
    assert " + 28 modules further from the limit" in lines
    assert "seen     step 40: " in text
    # Two tensors of 1/4 each: 1/4·√2.
    assert levels_of(frame)[1].bits == pytest.approx(-1.5)
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    follow(run.folder, narrow, once=True)
    assert "no step for 61 s" in frame_text(read_frame(run.folder, now=1e9 + 100)).plain


def test_a_bar_ends_at_the_largest_value_of_the_dtype() -> None:
    assert bar(ModuleLevel("a", 128.0, 128.0, "float32"), 10) == "█" * 10
    assert bar(ModuleLevel("a", 48.0, 128.0, "float32"), 10) == "█████·····"
    assert bar(ModuleLevel("a", -math.inf, 128.0, "float32"), 4) == "····"
    assert bar(ModuleLevel("a", -4.0, 16.0, "float16"), 4) == "██··"
    assert bar(ModuleLevel("a", math.inf, 128.0, "float32"), 3) == "∞∞∞"
    assert bar(ModuleLevel("a", math.nan, 128.0, "float32"), 3) == "×××"


def test_lines_follow_a_run_to_its_end(tmp_path: Path) -> None:
    run = Growing(tmp_path / "run")
    out = io.StringIO()

    def grow() -> None:
        run.grow(10)

    def warn() -> None:
        run.alarm("gradient-growth", "critical", f"grows {HOSTILE}")

    follow(run.folder, out, wait=in_turn(grow, grow, warn, run.end))
    lines = out.getvalue().splitlines()
    assert lines[0] == "waiting for the first step"
    assert lines[1].startswith("step 9   loss 2.5")
    assert lines[2].startswith("step 19 ")
    assert lines[2].endswith("bits   OK")
    assert "least headroom" in lines[2]
    assert lines[3].startswith("critical: step 20: grows ")
    assert lines[-1].startswith("the run has ended: ")
    assert "after 20 steps; gainstage report" in lines[-1]
    assert len(lines) == 5
    assert "\x1b" not in out.getvalue()


class Terminal(io.StringIO):
    encoding = "utf-8"  # pyright: ignore

    def isatty(self) -> bool:
        return True


def test_in_a_terminal_the_picture_is_drawn_in_place(tmp_path: Path) -> None:
    run = Growing(tmp_path / "run")
    out = Terminal()
    terminal = {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    acts = in_turn(lambda: run.grow(10), lambda: run.grow(10), run.end)
    follow(run.folder, out, wait=acts, environment=terminal)
    screen = pyte.Screen(80, 24)
    pyte.Stream(screen).feed(out.getvalue().replace("\n", "\r\n"))
    shown = [line.rstrip() for line in screen.display]
    assert sum("gainstage watch" in line for line in shown) == 1
    assert shown[0].endswith("OK, ENDED")
    assert any("step 19" in line for line in shown)
    assert any(line.startswith("the run has ended: ") for line in shown)
    assert screen.title == ""

    quiet = Terminal()
    follow(run.folder, quiet, environment={**terminal, "NO_COLOR": "1"})
    assert "\x1b" not in quiet.getvalue()


WAITS = """
import torch
w = torch.ones(3, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.1)
for step in range(8):
    optimizer.zero_grad()
    (w * w).sum().backward()
    optimizer.step()
    if step == 6:
        print("ready", flush=True)
        input()
"""


def test_a_run_that_was_killed_is_followed_to_its_end_too(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text(WAITS)
    command = [sys.executable, "-m", "gainstage", "run", "--out", "run", "waits.py"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert not read_frame(tmp_path / "run").ended
        assert RunIndex(tmp_path).rows()[0]["state"] == "live"
        process.kill()
    frame = read_frame(tmp_path / "run")
    assert frame.killed
    assert "OK, KILLED" in frame_text(frame).plain
    assert RunIndex(tmp_path).rows()[0]["state"] == "killed"
    watched = finish([sys.executable, "-m", "gainstage", "watch", "run"], tmp_path)
    assert watched.code == 0
    assert watched.out.splitlines()[-1].startswith("the run was killed: healthy after ")


def test_once_prints_one_frame_and_a_mistake_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = large_run(tmp_path / "run", 3, 40, 4)
    with pytest.raises(SystemExit) as left:
        main(["watch", str(folder), "--once"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert said.count("gainstage watch") == 1
    assert "model.enc" in said
    with pytest.raises(SystemExit) as left:
        main(["watch", str(tmp_path / "none"), "--once"])
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("threading.Event.wait", interrupt)
    with pytest.raises(SystemExit) as left:
        main(["watch", str(folder)])
    assert left.value.code == 130
    assert "Traceback" not in capsys.readouterr().err
