"""Real runs for the lab: trainings watched in processes of their own, their records read back."""

from __future__ import annotations

import json
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
from gainstage.facts.blocks import StepBlock, WeightBlock
from gainstage.facts.findings import Findings
from gainstage.facts.tensor import TensorInfo
from gainstage.store.reader import load

Progress = Callable[[str], None]
"""Says what is being done, where it takes more than two seconds."""
_AT_ONCE = 2
_USUAL = "0.01"
_ALL_THE_TIME = "1"
"""Share of the training time for reading more than norms. What a lesson shows must not hang on how
busy a machine is."""


@dataclass(frozen=True, slots=True)
class WatchedRun:
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
    commands: Sequence[Sequence[str]], progress: Progress = quiet, *, weights: bool = False
) -> list[WatchedRun]:
    """Watch several trainings, two at a time, and return what was recorded.

    Args:
        commands: A script, or `-m` and a module, each with its arguments.
        progress: Called with each command as it begins.
        weights: Whether weights are read at every step, which takes time.

    Raises:
        GainstageError: If a training does not run to its end.
    """
    for command in commands:
        names = [os.path.basename(each) if os.path.isabs(each) else each for each in command]
        progress(f"watching {' '.join(names)}")
    found: list[WatchedRun | None] = [None] * len(commands)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        parts = [range(first, len(commands), _AT_ONCE) for first in range(_AT_ONCE)]
        begun = [
            pool.submit(_watch, [tuple(commands[i]) for i in part], weights)
            for part in parts
            if part
        ]
        for part, each in zip(parts, begun, strict=False):
            for at, run in zip(part, each.result(), strict=True):
                found[at] = run
    return [run for run in found if run is not None]


def _watch(commands: Sequence[tuple[str, ...]], weights: bool) -> list[WatchedRun]:
    budget = _ALL_THE_TIME if weights else _USUAL
    with tempfile.TemporaryDirectory(prefix="gainstage-lab-") as folder:
        done = subprocess.run(
            [sys.executable, "-m", "gainstage.lab.trainings", folder, budget],
            input=json.dumps(commands),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise GainstageError(f"a training ended with code {done.returncode}: {last}")
        return [_read(command, Path(folder) / str(i)) for i, command in enumerate(commands)]


def _read(command: tuple[str, ...], folder: Path) -> WatchedRun:
    run = load(folder)
    return WatchedRun(command, run.block(), run.weight_block(), run.tensors(), run.findings)
