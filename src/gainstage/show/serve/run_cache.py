"""Runs that the dashboard shows, kept open: tiles of their steps, and their reports."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

from gainstage.show.figures import bin_width, cells_text, lines_json, most_columns, tensors_json
from gainstage.show.html import report_data
from gainstage.show.serve.run_index import Signature, signature
from gainstage.store.reader import load
from gainstage.store.seen import findings_so_far
from gainstage.store.window import RankSteps, bin_rows

MOST_OPEN = 8
_REST = 4.0
"""Reading reports takes at most a fifth of the time while a run is training."""


class CachedRun:
    """One run. Its methods may be called by several threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ranks: dict[int, RankSteps] = {}
        self._steps_lock = threading.Lock()
        self._report_lock = threading.Lock()
        self._report: dict[str, Any] | None = None
        self._of: Signature = ()
        self._not_before = 0.0

    def tile(
        self, rank: int, first: int | None, last: int | None, *, with_cells: bool
    ) -> dict[str, Any]:
        """Return the steps from `first` to `last` as `figures` does, in as many bins as fit.

        Every NaN and inf, and the smallest and largest value of each bin, is in the tile.

        Args:
            rank: The rank whose steps to read.
            first: None for the first on record.
            last: None for the last on record.
            with_cells: Whether to send the heatmap.
        """
        with self._steps_lock:
            steps = self._ranks.setdefault(rank, RankSteps(self.folder, rank))
            steps.refresh()
            every = steps.lines.step
            low = first if first is not None else int(every[0]) if len(every) else 0
            high = last if last is not None else int(every[-1]) if len(every) else -1
            rows = steps.rows(low, high)
            lines = steps.lines.part(rows)
            columns = most_columns(len(steps.tensors) if with_cells else 0)
            width = bin_width(lines.step, columns)
            tile = {
                "rank": rank,
                "width": width,
                "run_last_step": int(every[-1]) if len(every) else -1,
                **lines_json(lines, bin_rows(lines.step, width)),
            }
            if first is None and last is None:
                tile["tensors"] = tensors_json(steps.tensors)
            if with_cells:
                tile["cells"] = cells_text(steps.largest(rows, width))
            return tile

    def report(self) -> dict[str, Any]:
        """Return the report's data without the figures over steps, which are tiles.

        While a run is training it may be some seconds old; a longer record is read less often.
        """
        with self._report_lock:
            now = signature(self.folder)
            if self._report is not None and (
                now == self._of or time.monotonic() < self._not_before
            ):
                return self._report
            began = time.monotonic()
            run = load(self.folder)
            self._report = report_data(run, findings_so_far(run), with_steps=False)
            self._of = now
            self._not_before = time.monotonic() + _REST * (time.monotonic() - began)
            return self._report


class RunCache:
    """The runs last shown."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, CachedRun] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, folder: Path) -> CachedRun:
        """Return the run in a folder."""
        with self._lock:
            run = self._open.pop(folder, None) or CachedRun(folder)
            self._open[folder] = run
            while len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)
            return run
