"""A foreign log as blocks of steps, and what it does not hold, in words."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gainstage.detect import scan
from gainstage.diagnose.diagnose import diagnose
from gainstage.errors import ConfigError
from gainstage.facts.blocks import StepBlock
from gainstage.facts.findings import Findings
from gainstage.facts.record import RankRecord
from gainstage.facts.tensor import TensorInfo
from gainstage.store.blocks import narrowed, to_weight_block
from gainstage.store.foreign.csv_log import read_csv
from gainstage.store.foreign.json_log import read_jsonl, read_trainer_state
from gainstage.store.foreign.names import Names, found_names, tensor_name
from gainstage.store.foreign.rows import Rows
from gainstage.store.foreign.tensorboard_log import read_tensorboard
from gainstage.store.foreign.wandb_log import read_wandb
from gainstage.store.schema import profiles_block, times_block

_BLIND = {
    "loss": ("loss-nonfinite", "loss-divergence"),
    "norm": (
        *("gradient-nonfinite", "gradient-growth", "gradient-norm", "gradient-spike"),
        "overflow-forecast",
    ),
    "tensors": ("gradient-imbalance", "gradient-vanishing"),
    "weights": ("weight-growth", "update-spike"),
    "graphs": ("depth-gain", "time-gain", "headroom-low"),
    "steps": ("clip-saturated", "clip-idle", "step-skipped", "update-nonfinite"),
}
"""What is missing, and which symptoms nobody can see then."""


@dataclass(frozen=True, slots=True)
class ForeignLog:
    """A log that another tool wrote."""

    path: Path
    format: str
    names: Names
    record: RankRecord
    notes: tuple[str, ...]
    """What was found under which name, and what could not be seen."""

    @property
    def findings(self) -> Findings:
        """What the detectors see in it, and the diagnosis made of that."""
        scanned = scan.find([self.record])
        seen = replace(self.record, symptoms=scanned.symptoms)
        diagnosis = diagnose([seen], scanned.verdict)
        return replace(scanned, diagnosis=diagnosis)


def read_log(path: Path, chosen: Names | None = None) -> ForeignLog:
    """Return a foreign log: event files, CSV, JSON lines, trainer_state.json or a .wandb file.

    Args:
        path: The file, or a folder that holds event files or a .wandb file.
        chosen: Columns that are named; others are guessed.

    Raises:
        ConfigError: If it cannot be read, or holds neither a loss nor a gradient norm.
    """
    name, read = _reader_of(path)
    try:
        rows = read(path)
    except OSError as error:
        raise ConfigError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    if not rows:
        raise ConfigError(f"{str(path)!r} holds no rows")
    names = found_names([column for row in rows for column in row], chosen or Names())
    steps, rows, renumbered = _by_step(rows, names)
    tensors = _tensors(names)
    block = to_block(steps, rows, names)
    record = RankRecord(
        tensors=tensors,
        block=block,
        weights=to_weight_block([], len(tensors)),
        profiles=profiles_block([]),
        times=times_block([]),
        sites=(),
        faults=(),
        observations=(),
    )
    return ForeignLog(path, name, names, record, (*_notes(names, block), *renumbered))


def to_block(steps: Sequence[int], rows: Rows, names: Names) -> StepBlock:
    """Return rows as one block of steps.

    The total norm stands for a tensor of its own where no tensor's norm was logged; where only
    tensors' norms were, their root of the sum of squares is the total.
    """

    def column(name: str | None) -> NDArray[np.float64]:
        return np.array([row.get(name or "", np.nan) for row in rows], np.float64)

    columns = names.tensors or ((names.norm,) if names.norm else ())
    shape = (len(rows), len(columns))
    norms = np.array([[row.get(n, np.nan) for n in columns] for row in rows]).reshape(shape)
    present = np.array([[n in row for n in columns] for row in rows], np.bool_).reshape(shape)
    total = column(names.norm)
    if names.norm is None and names.tensors:
        total = np.sqrt(np.where(present, norms, 0.0) ** 2 @ np.ones(len(columns)))
    nothing = np.full(len(rows), np.nan)
    return StepBlock(
        step=np.asarray(steps, np.int64),
        time=column(names.time),
        loss=column(names.loss),
        has_loss=np.array([names.loss in row for row in rows], np.bool_),
        lr=column(names.lr),
        grad_norm=total,
        max_norm=nothing,
        clip_coefficient=nothing,
        skipped=np.zeros(len(rows), np.int64),
        grad_norms=narrowed(norms),
        present=present,
    )


def _reader_of(path: Path) -> tuple[str, Callable[[Path], Rows]]:
    """Return the name of a log's format, as its name or first bytes tell it, and its reader."""
    if not path.exists():
        raise ConfigError(f"no such log: {str(path)!r}")
    if path.suffix == ".wandb" or (path.is_dir() and any(path.glob("*.wandb"))):
        return "Weights & Biases", read_wandb
    if path.is_dir() or "tfevents" in path.name:
        return "TensorBoard", read_tensorboard
    if path.suffix in (".jsonl", ".ndjson"):
        return "JSON lines", read_jsonl
    if path.suffix == ".json":
        return "trainer state", read_trainer_state
    if path.suffix in (".csv", ".tsv"):
        return "CSV", read_csv
    raise ConfigError(
        f"{str(path)!r} is of no known format; known are *tfevents*, .csv, .tsv, .jsonl, .ndjson, "
        "trainer_state.json, .wandb, and folders with event files or a .wandb file"
    )


def _by_step(rows: Rows, names: Names) -> tuple[list[int], Rows, tuple[str, ...]]:
    """Return rows that hold something, with steps that rise, rows of one step put together."""
    wanted = {names.loss, names.norm, *names.tensors} - {None}
    kept: Rows = []
    steps: list[int] = []
    for place, row in enumerate(rows):
        if not wanted & row.keys():
            continue
        own = row.get(names.step or "", np.nan)
        step = int(own) if np.isfinite(own) and abs(own) < 2**62 else place
        if steps and step == steps[-1]:
            kept[-1] = kept[-1] | row
        else:
            steps.append(step)
            kept.append(row)
    if any(after < before for before, after in itertools.pairwise(steps)):
        note = f"{names.step} goes back, so rows are numbered as they come"
        return list(range(len(kept))), kept, (note,)
    return steps, kept, ()


def _tensors(names: Names) -> tuple[TensorInfo, ...]:
    if names.tensors:
        return tuple(TensorInfo(tensor_name(n), None, (), "float32") for n in names.tensors)
    return (TensorInfo("all parameters", None, (), "float32"),) if names.norm else ()


def _notes(names: Names, block: StepBlock) -> list[str]:
    said = [
        f"{what} in {name!r}" if name else f"no {what}"
        for what, name in (
            ("loss", names.loss),
            ("gradient norm", names.norm),
            ("learning rate", names.lr),
            ("step", names.step),
        )
    ]
    if names.tensors:
        said.append(f"norms of {len(names.tensors)} tensors")
    missing = {"weights", "graphs", "steps"}
    missing |= {"loss"} if names.loss is None else set()
    missing |= {"norm"} if names.norm is None and not names.tensors else set()
    missing |= {"tensors"} if not names.tensors else set()
    blind = [
        symptom for what, symptoms in _BLIND.items() if what in missing for symptom in symptoms
    ]
    notes = [f"found {', '.join(said)}", f"not logged, so not checked: {', '.join(blind)}"]
    gap = int(np.median(np.diff(block.step))) if len(block) > 1 else 1
    if gap > 1:
        notes.append(f"a row every {gap} steps: what happened in between is not in the log")
    return notes
