"""Making and claiming a run's folder."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gainstage.errors import RunFolderError
from gainstage.facts.codec import from_json, json_safe
from gainstage.facts.run_info import RunInfo
from gainstage.store.journal import write_json

RUNS_FOLDER = "gainstage-runs"
RUN_INFO = "run.json"


def create_run_folder(out: Path | None, info: RunInfo) -> Path:
    """Make a folder that belongs to this run alone, with its run.json, and return its path.

    Args:
        out: The folder itself, made with its parents; it may exist if it is empty. None for a
            new folder under `gainstage-runs` here, named by the time and the script.
        info: What run.json is to say as the run begins.

    Returns:
        The absolute path, so that a script may change its working directory.

    Raises:
        RunFolderError: If there can be no such folder, or another run has it.
    """
    folder = Path(RUNS_FOLDER) if out is None else out
    try:
        folder = folder.absolute()
        folder = _claim_new(folder, info.script) if out is None else _claim_given(folder)
        _write_first_info(folder, json_safe(info))
    except OSError as error:
        raise RunFolderError(
            f"cannot make the run folder {str(folder)!r} ({error.strerror or error}); "
            "name a folder that can be written with --out DIR"
        ) from error
    return folder


def claim_folder(script: str, suffix: str) -> Path:
    """Make a new folder under `gainstage-runs` that is for several runs, and return its path.

    Raises:
        RunFolderError: If it cannot be made.
    """
    parent = Path(RUNS_FOLDER).absolute()
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{_plain_name(script)}-{suffix}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return _claim_name(parent, name)
    except OSError as error:
        raise RunFolderError(
            f"cannot make a folder in {str(parent)!r} ({error.strerror or error})"
        ) from error


def was_killed(info: RunInfo) -> bool:
    """Tell whether a run did not end itself, but its process is gone; False where unknown.

    Only a process of this machine can be asked for.
    """
    if info.ended is not None or info.host != socket.gethostname():
        return False
    if os.name != "posix" or info.pid is None:
        return False
    try:
        os.kill(info.pid, 0)  # sends nothing
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def read_run_info(folder: Path) -> RunInfo:
    """Return what run.json of the run in `folder` says.

    Raises:
        OSError: If the file cannot be read.
        DecodeError: If it holds something else; a ValueError.
    """
    return from_json((folder / RUN_INFO).read_bytes(), RunInfo)


def update_run_info(folder: Path, **fields: Any) -> None:
    """Rewrite run.json of the run in `folder` with `fields` put in; readers never see half of it.

    Args:
        folder: A run's folder.
        fields: Of `RunInfo`.

    Raises:
        RunFolderError: If it cannot be written.
    """
    try:
        info = read_run_info(folder)
    except (OSError, ValueError):
        # A lost run.json is no reason to lose how the run ended too.
        info = RunInfo()
    try:
        _write_info(folder, json_safe(replace(info, **fields)))
    except OSError as error:
        raise RunFolderError(
            f"cannot write {str(folder / RUN_INFO)!r} ({error.strerror or error})"
        ) from error


def claim_rank(folder: Path, preferred: int | None) -> int:
    """Claim a rank's place in the run `folder` for this process and return its number.

    Args:
        folder: A run's folder.
        preferred: The number to take if it is free; otherwise the next free one above it.
            None for the lowest free one.

    Raises:
        RunFolderError: If nothing can be made there.
    """
    rank = preferred or 0
    while True:
        try:
            (folder / "steps").mkdir(exist_ok=True)
            (folder / "steps" / f"rank={rank}").mkdir()
        except FileExistsError:
            if (folder / "steps").is_dir():
                rank += 1
                continue
            raise RunFolderError(f"{str(folder / 'steps')!r} is no folder") from None
        except OSError as error:
            raise RunFolderError(
                f"cannot record rank {rank} in {str(folder)!r} ({error.strerror or error})"
            ) from error
        return rank


def _claim_given(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    taken = sorted(os.listdir(folder))
    if not taken:
        # Of two runs that both found it empty, only one can make this.
        with contextlib.suppress(FileExistsError):
            (folder / "steps").mkdir()
            return folder
    what = f"it holds {taken[0]!r}" if taken else "another run has just taken it"
    raise RunFolderError(
        f"a run needs a folder of its own, and {str(folder)!r} is not empty ({what}); "
        "name a new one with --out DIR, or leave --out away"
    )


def _claim_new(parent: Path, script: str) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    folder = _claim_name(parent, f"{time.strftime('%Y%m%d-%H%M%S')}-{_plain_name(script)}")
    (folder / "steps").mkdir()
    return folder


def _claim_name(parent: Path, name: str) -> Path:
    number = 1
    while True:
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            continue
        return folder


def _plain_name(script: str) -> str:
    stem = re.sub(r"\.pyw?$", "", Path(script).name)
    return re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("._-")[:80] or "script"


def _write_first_info(folder: Path, info: Mapping[str, Any]) -> None:
    try:
        _write_info(folder, info)
    except OSError:
        # Give the claim back, so that the same folder can be asked for again.
        with contextlib.suppress(OSError):
            (folder / "steps").rmdir()
        raise


def _write_info(folder: Path, info: Mapping[str, Any]) -> None:
    write_json(folder / RUN_INFO, info)
