"""`gainstage check`: run a script up to its first steps in a process of its own, and read it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gainstage.attach.startup.launch import check_script, command_of, run_info
from gainstage.channel.config import RunConfig, observer_of
from gainstage.ledger.gain_data import GainLedger
from gainstage.ledger.gain_ledger import gain_ledger
from gainstage.store.folder import create_run_folder
from gainstage.store.reader import load
from gainstage.store.readings import read_readings


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of a check."""

    name: str
    """Of the script."""
    code: int
    """The script's exit code; 0 where it was stopped."""
    ledger: GainLedger | None
    """None where it came to no step."""


def checked(
    target: str,
    arguments: Sequence[str],
    *,
    is_module: bool = False,
    steps: int = 1,
    out: Path | None = None,
    output_on_stderr: bool = False,
) -> Checked:
    """Run a script until it has been about to take so many optimizer steps; say what they show.

    Args:
        target: The script's path, or a module's dotted name.
        arguments: The script's own.
        is_module: Whether it is a module.
        steps: How far to go; the last step is recorded, but not taken.
        out: The run's folder, kept; None for a temporary one.
        output_on_stderr: Whether what the script prints goes to standard error.

    Raises:
        ConfigError: If there is no such script.
        RunFolderError: If `out` cannot be made or holds something else.
    """
    check_script(target, is_module=is_module)
    name = target if is_module else os.path.basename(target)
    info = run_info(name, [*(["-m"] if is_module else []), target, *arguments])
    with tempfile.TemporaryDirectory(prefix="gainstage-check-") as temporary:
        folder = create_run_folder(out or Path(temporary) / "run", info).resolve()
        # Whoever runs the script is not this process: nobody there prints a summary.
        config = RunConfig(
            folder=folder,
            main_pid=os.getpid(),
            blackbox_limit_bytes=0,
            strict=True,
            check_steps=steps,
            observer=observer_of(None),
        )
        command, environment = command_of(config, target, arguments, is_module=is_module)
        code = _finish(command, environment, output_on_stderr=output_on_stderr)
        readings, run = read_readings(folder), load(folder)
        if readings is None or not run.ranks:
            return Checked(name, code, None)
        return Checked(name, code, gain_ledger(run.record(run.ranks[0]), readings))


def _finish(command: list[str], environment: dict[str, str], *, output_on_stderr: bool) -> int:
    """Run a command to its end; return its exit code as a shell reports it."""
    sys.stdout.flush()
    sys.stderr.flush()
    output = sys.stderr.fileno() if output_on_stderr else None
    with subprocess.Popen(command, env=environment, stdout=output) as process:
        while True:
            try:
                code = process.wait()
            except KeyboardInterrupt:
                continue  # the script has been interrupted as well, and ends in its own way
            return 128 - code if code < 0 else code
