"""Real runs for the lab: `gainstage run` in a process of its own, and its record read back."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import gainstage
from gainstage.errors import GainstageError
from gainstage.records import Findings, StepBlock, TensorInfo, WeightBlock
from gainstage.store.reader import load

Tell = Callable[[str], None]
"""Says what is being done, where it takes more than two seconds."""
_AT_ONCE = 2
_EVERY_STEP = ("--budget", "100%")
"""Weights are read at every step: what a lesson shows must not hang on how busy a machine is."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What the record of one run says."""

    arguments: tuple[str, ...]
    block: StepBlock
    weights: WeightBlock
    tensors: tuple[TensorInfo, ...]
    findings: Findings

    @property
    def final_loss(self) -> float:
        """Loss of the last step that had one."""
        losses = self.block.loss[self.block.has_loss]
        return float(losses[-1]) if len(losses) else float("nan")

    @property
    def share_clipped(self) -> float:
        """Share of the steps whose gradients were scaled down; nan > 0 counts as clipped."""
        clipped = ~(self.block.clip_coefficient >= 1) & (self.block.max_norm > 0)
        return float(clipped.mean()) if len(self.block) else 0.0


def quiet(what: str) -> None:
    """Say nothing."""


def char_rnn() -> Path | None:
    """Return examples/char_rnn.py, which is beside the source and in no installed package."""
    root = Path(gainstage.__file__).resolve().parents[2]
    for folder in (Path.cwd(), root):
        script = folder / "examples" / "char_rnn.py"
        if script.is_file():
            return script.resolve()
    return None


def watch_runs(
    commands: Sequence[Sequence[str]], tell: Tell = quiet, *, weights: bool = False
) -> list[Watched]:
    """Run several trainings under `gainstage run`, two at a time, and return what was recorded.

    Args:
        commands: What stands after `gainstage run`: a script or `-m` and a module, with arguments.
        tell: Hears of each command as it begins.
        weights: Whether weights are read at every step, which takes time.

    Raises:
        GainstageError: If a training does not run to its end.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        options = _EVERY_STEP if weights else ()
        begun = [pool.submit(_watch, tuple(each), options, tell) for each in commands]
        return [each.result() for each in begun]


def _watch(command: tuple[str, ...], options: Sequence[str], tell: Tell) -> Watched:
    names = [os.path.basename(each) if os.path.isabs(each) else each for each in command]
    tell(f"gainstage run {' '.join(names)}")
    with tempfile.TemporaryDirectory(prefix="gainstage-lab-") as folder:
        out = Path(folder) / "run"
        done = subprocess.run(
            [sys.executable, "-m", "gainstage", "run", "--out", str(out), *options, *command],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise GainstageError(f"{' '.join(names)} ended with code {done.returncode}: {last}")
        run = load(out)
        return Watched(command, run.block(), run.weight_block(), run.tensors(), run.findings)
