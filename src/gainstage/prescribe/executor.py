"""Where trials run: as processes of this machine. `executor_ray` has the same for a cluster."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

_PR_SET_PDEATHSIG = 1
"""Of linux/prctl.h."""


@dataclass(frozen=True, slots=True)
class Job:
    """A process to start: in which folder, and where its output goes."""

    command: tuple[str, ...]
    cwd: str
    environment: Mapping[str, str]
    out: Path
    err: Path


Ended = int | Literal["lost"]
"""The exit code, or that the machine which ran it went away."""


class Running(Protocol):
    """A job that has been started."""

    def poll(self) -> Ended | None:
        """Return how it ended, None while it runs."""
        ...

    def stop(self) -> None:
        """End it with all its children, whatever they do; return when they are gone."""
        ...


class Executor(Protocol):
    """Starts jobs."""

    def start(self, job: Job) -> Running:
        """Start a job, which runs from now on."""
        ...

    def close(self) -> None:
        """Give back what is held."""
        ...


class LocalExecutor:
    """Processes of this machine."""

    def start(self, job: Job) -> Running:
        """Start a process in a group of its own, so that its children can be ended with it."""
        return _LocalProcess(job)

    def close(self) -> None:
        """Nothing is held."""


class _LocalProcess:
    def __init__(self, job: Job) -> None:
        self._process = start_process(job)

    def poll(self) -> Ended | None:
        return self._process.poll()

    def stop(self) -> None:
        end_process(self._process)


def start_process(job: Job) -> subprocess.Popen[bytes]:
    """Start a job's process with its output going to files, deaf to the terminal's Ctrl-C.

    On Linux it ends with whoever has started it, even if that is killed.
    """
    before = None
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None).prctl
        before = functools.partial(prctl, _PR_SET_PDEATHSIG, signal.SIGKILL)
    with job.out.open("wb") as out, job.err.open("wb") as err:
        return subprocess.Popen(
            list(job.command),
            cwd=job.cwd,
            env=dict(job.environment),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            process_group=0,
            preexec_fn=before,
        )


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and the group that it leads."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def processors_at_once(
    busy: float, *, processors: int | None = None, has_accelerator: bool | None = None
) -> int:
    """Return how many trials can run at once without taking processors from each other.

    The number of threads stays the baseline's, for it changes bits; so what counts is how many
    processors the baseline kept busy. One at a time where there is an accelerator: all
    would use the same one, and its memory.

    Args:
        busy: The baseline's processor time over its time.
        processors: Of this machine; as it says unless given.
        has_accelerator: Whether there is one; looked for unless given.
    """
    if has_accelerator is None:
        has_accelerator = any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists()
    if has_accelerator:
        return 1
    return max(1, int((processors or os.cpu_count() or 1) / max(1.0, busy) + 0.25))


def command_of(python: str, folder: Path, treat: Sequence[str], script: Sequence[str]) -> list[str]:
    """Return the command line that runs a script under watch, treated, into a run's folder."""
    options = [option for each in treat for option in ("--treat", each)]
    run = [python, "-m", "gainstage", "run", "--out", str(folder), "--blackbox-limit", "0"]
    return [*run, *options, *script]
