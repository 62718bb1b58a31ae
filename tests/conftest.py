"""What all tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("gainstage", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("gainstage")


@dataclass(frozen=True)
class Ran:
    """A finished process."""

    code: int
    out: str
    err: str
    folder: Path


Runner = Callable[..., Ran]


def environment() -> dict[str, str]:
    """Return an environment in which nothing is watched and one thread computes."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GAINSTAGE", "COLUMNS"))}
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


def finish(command: list[str], cwd: Path, *, stdin: str = "", **extra: str) -> Ran:
    """Run a command to its end."""
    done = subprocess.run(
        command,
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        env=environment() | extra,
        timeout=240,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr, cwd / "run")


@pytest.fixture
def bare(tmp_path: Path) -> Runner:
    """Run `python ARGS` in a folder of the test's own."""

    def run(*arguments: str, stdin: str = "") -> Ran:
        return finish([sys.executable, *arguments], tmp_path, stdin=stdin)

    return run


@pytest.fixture
def watched(tmp_path: Path) -> Runner:
    """Run `gainstage run --out run OPTIONS ARGS` in the same folder."""

    def run(*arguments: str, options: tuple[str, ...] = (), stdin: str = "") -> Ran:
        command = [sys.executable, "-m", "gainstage", "run", "--out", "run", *options, *arguments]
        return finish(command, tmp_path, stdin=stdin)

    return run
