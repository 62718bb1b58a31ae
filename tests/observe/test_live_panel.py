"""The live panel, in a real pseudo-terminal read by a terminal emulator."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios
from pathlib import Path

import pyte
import pytest

from conftest import environment, finish

pytestmark = pytest.mark.usefixtures("process_observer")

SCRIPT = """
import time, torch
model = torch.nn.Linear(4, 4)
opt = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(40):
    opt.zero_grad()
    model(torch.ones(2, 4)).pow(2).mean().backward()
    opt.step()
    time.sleep(0.04)
    print(f"the script says {step}", flush=True)
"""


def in_terminal(cwd: Path, command: list[str], rows: int, columns: int) -> tuple[list[str], str]:
    """Run a command in a terminal; return each screen on which the panel stood, and the last."""
    (cwd / "train.py").write_text(SCRIPT)
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.execve(sys.executable, [sys.executable, *command], environment() | {"TERM": "xterm"})
    screen = pyte.Screen(columns, rows)
    stream = pyte.ByteStream(screen)
    seen: list[str] = []
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:
            break
        if not data:
            break
        stream.feed(data)
        text = "\n".join(screen.display)
        if "── gainstage" in text:
            seen.append(text)
    os.close(master)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return seen, "\n".join(screen.display)


@pytest.mark.parametrize("size", [(24, 80), (30, 120)])
def test_the_panel_stands_below_what_the_script_prints(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    command = ["-m", "gainstage", "run", "--live", "--out", "run", "train.py"]
    seen, last = in_terminal(tmp_path, command, *size)
    assert seen, last
    for text in seen[-3:]:
        lines = [line.rstrip() for line in text.split("\n")]
        assert lines[-5].startswith("── gainstage ── train.py ─")
        assert lines[-4].startswith("step")
        assert "loss" in lines[-4]
        assert lines[-3].startswith("‖g‖")
        assert lines[-2].startswith("largest  weight")
        assert lines[-1] == "seen     no symptom"
        # Above it the script's lines, one below the other and in order.
        said = [line for line in lines[:-5] if line.startswith("the script says")]
        numbers = [int(line.split()[-1]) for line in said]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert len(numbers) >= 10
    assert "── gainstage" not in last
    assert "HEALTHY" in last
    assert "the script says 39" in last


def test_without_a_terminal_there_is_no_panel_and_a_word_about_it(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "gainstage", "run", "--live", "--out", "run", "train.py"]
    ran = finish(command, tmp_path)
    assert ran.code == 0
    assert "no live panel" in ran.err
    assert "\x1b" not in ran.err
