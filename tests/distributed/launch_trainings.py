"""Launches the trainings on several processes, bare and watched, with a bound on their time."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

TRAININGS = Path(__file__).with_name("trainings.py")
SECONDS = 60


def launch(script: Path, *arguments: str, record: Path | None = None, world: int = 2) -> str:
    """Run a script on several processes and return what they print.

    Args:
        script: The script.
        arguments: Its arguments.
        record: The folder of the run where it is watched.
        world: Number of processes.

    Raises:
        subprocess.TimeoutExpired: If it hangs.
        subprocess.CalledProcessError: If it fails.
    """
    watch = [] if record is None else ["gainstage", "run", "--out", str(record), "-m"]
    torchrun = ["torch.distributed.run", "--nproc_per_node", str(world)]
    torchrun += ["--master_port", str(_free_port()), str(script), *arguments]
    done = subprocess.run(
        [sys.executable, "-m", *watch, *torchrun],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    return done.stdout


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
