"""Train the cases under `gainstage.watch`, several processes at a time, and keep their records."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import random
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from benchmarks.corpus.case import Case
from benchmarks.corpus.families import family_of
from benchmarks.corpus.script import seed_of

import gainstage

TRUTH = "truth.json"
BUDGET = 0.1
"""These nets step in a millisecond; with the default budget their weights were hardly ever read."""


def play_all(cases: Sequence[Case], folder: Path, jobs: int) -> None:
    """Train every case that has no record below `folder` yet."""
    todo = [(case, folder) for case in cases if not (folder / case.name / TRUTH).exists()]
    if not todo:
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for done, _ in enumerate(pool.imap_unordered(_play, todo, chunksize=4), 1):
            if sys.stderr.isatty():
                print(f"\r{done}/{len(todo)}", end="", file=sys.stderr)


def _play(job: tuple[Case, Path]) -> None:
    play(*job)


def play(case: Case, folder: Path) -> None:
    """Train one case, its record in a folder of its name, and write down what was drawn."""
    torch.set_num_threads(1)
    draw = random.Random(seed_of(case))
    training = family_of(case)(draw, case.cause is not None and not case.control)
    out = folder / case.name
    shutil.rmtree(out, ignore_errors=True)  # left by a corpus that was interrupted
    # Alarms belong into the record, not on the terminal.
    with contextlib.redirect_stderr(io.StringIO()), gainstage.watch(out=out, budget=BUDGET):
        training.run()
    truth = {
        "cause": None if case.control else case.cause,
        "fault_step": training.fault_step,
        "settings": training.settings,
    }
    (out / TRUTH).write_text(json.dumps(truth))
