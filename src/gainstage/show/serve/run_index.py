"""The runs under a folder: their names, and a row of the list for each."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gainstage.detect.scan import together
from gainstage.detect.symptom_json import message_of
from gainstage.errors import RunFolderError
from gainstage.facts.run_info import RunInfo
from gainstage.store.folder import RUN_INFO, read_run_info, was_killed
from gainstage.store.seen import stored_findings, symptoms_so_far
from gainstage.store.stream import read_table

SILENT_AFTER_S = 120.0
"""A run that has not ended and wrote nothing for so long was killed, or hangs."""
_WATCHED = (RUN_INFO, "findings.json", "symptoms.jsonl", "treatments.jsonl", "trials.json")
_TABLES = ("steps", "weights", "profiles", "times")

Signature = tuple[tuple[str, int, int], ...]


class RunIndex:
    """Finds runs by name in one folder and the folders in it; a name is never used as a path."""

    def __init__(self, root: Path) -> None:
        """Look at a folder of runs, or at one run.

        Raises:
            RunFolderError: If there is no such folder.
        """
        if not root.is_dir():
            what = "is a file" if root.exists() else "does not exist"
            raise RunFolderError(
                f"{str(root)!r} {what}; name a folder of runs, or start one: gainstage run SCRIPT"
            )
        self.root = root.resolve()
        self._rows: dict[str, tuple[Signature, dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def runs(self) -> dict[str, Path]:
        """Return the folders of all runs by name, in no order."""
        if _is_run(self.root):
            return {self.root.name: self.root}
        return dict(self._runs_below(self.root, "", 2))

    def folder(self, name: str) -> Path | None:
        """Return the folder of a run; None where no run has that name."""
        return self.runs().get(name)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the list, runs in training first, then the latest."""
        with self._lock:
            rows = [self._row(name, folder) for name, folder in self.runs().items()]
        rows.sort(key=lambda row: (row["started"], row["name"]), reverse=True)
        return sorted(rows, key=lambda row: row["state"] != "live")

    def _runs_below(self, folder: Path, above: str, depth: int) -> Iterator[tuple[str, Path]]:
        for entry in _entries(folder):
            path = Path(entry.path)
            name = above + entry.name
            if _is_run(path):
                yield name, path
            elif depth > 1:
                yield from self._runs_below(path, f"{name}/", depth - 1)

    def _row(self, name: str, folder: Path) -> dict[str, Any]:
        now = signature(folder)
        known = self._rows.get(name)
        if known is None or known[0] != now:
            self._rows[name] = known = (now, _row(name, folder))
        row = dict(known[1])
        if row["state"] == "live":
            row["state"] = _state_unwritten(folder, row["changed"])
        return row


def _state_unwritten(folder: Path, changed: float) -> str:
    """Return the state of a run whose record does not say that it has ended."""
    try:
        if was_killed(read_run_info(folder)):
            return "killed"
    except (OSError, ValueError):
        return "silent"
    return "silent" if time.time() - changed > SILENT_AFTER_S else "live"


def signature(folder: Path) -> Signature:
    """Return what changes whenever something is written to a run: a few `stat` calls."""
    parts: list[tuple[str, int, int]] = []
    paths = [folder / name for name in _WATCHED]
    for table in _TABLES:
        for rank in _entries(folder / table):
            paths += [Path(entry.path) for entry in _files(rank.path)]
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            continue
        parts.append((str(path.relative_to(folder)), status.st_mtime_ns, status.st_size))
    return tuple(sorted(parts))


def _row(name: str, folder: Path) -> dict[str, Any]:
    try:
        info = read_run_info(folder)
    except (OSError, ValueError):
        info = RunInfo()
    ended = info.ended
    findings = stored_findings(folder) if ended else None
    if findings is None:
        findings = together(symptoms_so_far(folder), _steps(folder))
    worst = message_of(findings.symptoms[0]) if findings.symptoms else ""
    return {
        "name": name,
        "script": info.script,
        "verdict": findings.verdict,
        "worst": worst if findings.verdict != "healthy" else "",
        "steps": findings.steps,
        "state": "ended" if ended else "live",
        "started": info.started or "",
        "ended": None if ended is None else str(ended),
        "treat": list(info.treat or ()),
        "changed": max((mtime for _, mtime, _ in signature(folder)), default=0) / 1e9,
    }


def _steps(folder: Path) -> int:
    """Return how many steps the rank that is ahead has made."""
    last = -1
    for rank in _entries(folder / "steps"):
        batches, _ = read_table(Path(rank.path))
        filled = [batch for batch in batches if batch.num_rows]
        if filled:
            last = max(last, int(np.asarray(filled[-1].column(0))[-1]))
    return last + 1


def _is_run(folder: Path) -> bool:
    return (folder / RUN_INFO).is_file() or (folder / "steps").is_dir()


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return the folders in a folder. A link may lead outside, so it is none."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _files(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if entry.is_file(follow_symlinks=False)]
    except OSError:
        return []
