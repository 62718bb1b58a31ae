"""The black box: a training's state as it is when it first fails, before the optimizer steps."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gainstage.blackbox.tensor_file import TensorFile, why_not
from gainstage.blackbox.training_state import Training, model_layout, optimizer_layout, rng_states
from gainstage.facts.fault import Fault
from gainstage.store.blackbox import BLACKBOX_INFO, BLACKBOX_SCHEMA, PARTS, Part, box_folder
from gainstage.store.journal import write_json
from gainstage.store.state_tree import encode


@dataclass(frozen=True, slots=True)
class FaultTensors:
    """What a fault was computed from, as long as its step is not judged."""

    kind: str
    """The culprit's kind of node, as `graph.autopsy.replay.reexecute` takes it."""
    inputs: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    """What the culprit was computed from, by the names that `reexecute` knows."""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Its other arguments."""
    batch: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    """The data of the step."""


@dataclass(frozen=True, slots=True)
class _Noted:
    fault: Fault
    tensors: FaultTensors


class BlackBox:
    """Writes one box a process, for the first failure. Never raises: a failure costs one warning.

    Nothing is held between steps but the fault of a step that is not judged yet.
    """

    def __init__(
        self,
        *,
        place: Callable[[], tuple[Path, int]],
        limit_bytes: int,
        warn: Callable[[str], None],
    ) -> None:
        """Prepare; nothing is written before `write`.

        Args:
            place: Returns the run's folder and this process's rank in the record.
            limit_bytes: Bytes of tensors at most; 0 for no box at all.
            warn: Takes one line when the box cannot be written.
        """
        self.is_done = limit_bytes <= 0
        self.path: Path | None = None
        """Of the box, once it is there."""
        self._place = place
        self._limit = limit_bytes
        self._warn = warn
        self._noted: _Noted | None = None

    def note(self, fault: Fault, tensors: FaultTensors) -> None:
        """Hold what the autopsy found until its step is judged; the first of a step counts."""
        if not self.is_done and not self.has_fault_of(fault.step):
            self._noted = _Noted(fault, tensors)

    def forget(self) -> None:
        """Let go of a fault: a loss scaler has left its step out."""
        self._noted = None

    def has_fault_of(self, step: int) -> bool:
        """Tell whether the autopsy found something in a step that was not judged since."""
        return self._noted is not None and self._noted.fault.step == step

    def write(self, step: int, training: Callable[[], Training], facts: Mapping[str, Any]) -> None:
        """Write the box, if this is the first failure.

        Args:
            step: The step that fails, not made yet.
            training: Returns what is kept.
            facts: For the JSON: the reason, and which gradients are not finite.
        """
        if self.is_done:
            return
        self.is_done = True
        noted = self._noted if self.has_fault_of(step) else None
        self._noted = None
        try:
            run, rank = self._place()
            self.path = _write(run, rank, step, training(), facts, noted, self._limit)
        except Exception as error:
            self._warn(
                f"no black box of step {step}: {type(error).__name__}: {error}; training goes on"
            )


def _write(
    run: Path,
    rank: int,
    step: int,
    training: Training,
    facts: Mapping[str, Any],
    noted: _Noted | None,
    limit: int,
) -> Path:
    files: dict[Part, TensorFile] = {part: TensorFile() for part in PARTS}
    info: dict[str, Any] = {
        "schema": BLACKBOX_SCHEMA,
        "step": step,
        "rank": rank,
        "time": time.time(),
        **facts,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        **_fault_layout(noted, files),
        "model": model_layout(training, files["model"]),
        "optimizers": [
            optimizer_layout(training, number, files["optimizer"])
            for number in range(len(training.optimizers))
        ],
        "scaler": training.scaler,
        "rng": rng_states(),
    }
    info["left_out"] = _fit(files, limit)
    info["bytes"] = {part: file.nbytes for part, file in files.items()}
    path = box_folder(run, step, rank)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        for part, file in files.items():
            if file.tensors:
                file.save(temporary / f"{part}.safetensors")
        write_json(temporary / BLACKBOX_INFO, info)
        temporary.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            shutil.rmtree(temporary)
        raise
    return path


def _fit(files: dict[Part, TensorFile], limit: int) -> list[dict[str, str]]:
    """Empty files, the least needed first, until they fit; return what was left out, and why."""
    left_out: list[dict[str, str]] = []
    for part in PARTS:
        total = sum(file.nbytes for file in files.values())
        if total <= limit:
            break
        if files[part].tensors:
            why = f"the box would take {total:,} bytes and --blackbox-limit is {limit:,}"
            left_out.append({"part": part, "why": why})
            files[part] = TensorFile()
    return left_out


def _fault_layout(noted: _Noted | None, files: dict[Part, TensorFile]) -> dict[str, Any]:
    if noted is None:
        return {"fault": None, "culprit": None, "batch": None}
    left_out: list[dict[str, str]] = []

    def put(part: Part, name: str, tensor: Tensor) -> dict[str, Any]:
        why = why_not(tensor)
        if why is None:
            return {"$tensor": files[part].put(name, tensor)}
        left_out.append({"name": name, "why": why})
        return {"$left_out": why}

    def put_setting(value: object, path: str) -> dict[str, Any]:
        if isinstance(value, Tensor):
            return put("saved", f"settings{path}", value)
        if isinstance(value, torch.dtype):
            return {"$dtype": str(value).removeprefix("torch.")}
        return {"$left_out": f"a {type(value).__name__}"}

    tensors = noted.tensors
    culprit = {
        "op": tensors.kind,
        "inputs": {name: put("saved", name, tensor) for name, tensor in tensors.inputs.items()},
        "settings": encode(dict(tensors.settings), put_setting),
        "left_out": left_out,
    }
    batch = {name: put("batch", name, tensor) for name, tensor in tensors.batch.items()}
    return {"fault": noted.fault.as_json(), "culprit": culprit, "batch": batch}
