"""The black box: a training's state as it is when it first fails, before the optimizer steps."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gainstage.blackbox.tensor_file import Shelf, why_not
from gainstage.blackbox.training_state import Training, model_layout, optimizer_layout, rng_states
from gainstage.facts.fault import Fault
from gainstage.store.blackbox import BLACKBOX_INFO, BLACKBOX_SCHEMA, PARTS, Part, box_folder
from gainstage.store.journal import write_json
from gainstage.store.state_tree import encode


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the autopsy of a step found, to go into its black box."""

    fault: Fault
    op: str | None = None
    """The culprit's kind of node, as `graph.replay.reexecute` takes it."""
    inputs: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    """What the culprit was computed from, by the names that `reexecute` knows."""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Its other arguments."""
    batch: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    """The data of the step."""


class BlackBox:
    """Writes one box a process, for the first failure. Never raises: a failure costs one warning.

    Nothing is held between steps but the evidence of a step that is not judged yet.
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
        self._evidence: Evidence | None = None

    def note(self, evidence: Evidence) -> None:
        """Hold what the autopsy found until its step is judged; the first of a step counts."""
        held = self._evidence
        if not self.is_done and (held is None or held.fault.step != evidence.fault.step):
            self._evidence = evidence

    def forget(self) -> None:
        """Let go of evidence: a loss scaler has left the step out."""
        self._evidence = None

    def has_evidence_of(self, step: int) -> bool:
        """Tell whether the autopsy found something in a step that was not judged since."""
        return self._evidence is not None and self._evidence.fault.step == step

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
        evidence = self._evidence if self.has_evidence_of(step) else None
        self._evidence = None
        try:
            run, rank = self._place()
            self.path = _write(run, rank, step, training(), facts, evidence, self._limit)
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
    evidence: Evidence | None,
    limit: int,
) -> Path:
    shelves: dict[Part, Shelf] = {part: Shelf() for part in PARTS}
    info: dict[str, Any] = {
        "schema": BLACKBOX_SCHEMA,
        "step": step,
        "rank": rank,
        "time": time.time(),
        **facts,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        **_evidence_layout(evidence, shelves),
        "model": model_layout(training, shelves["model"]),
        "optimizers": [
            optimizer_layout(training, number, shelves["optimizer"])
            for number in range(len(training.optimizers))
        ],
        "scaler": training.scaler,
        "rng": rng_states(),
    }
    info["left_out"] = _fit(shelves, limit)
    info["bytes"] = {part: shelf.nbytes for part, shelf in shelves.items()}
    path = box_folder(run, step, rank)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        for part, shelf in shelves.items():
            if shelf.tensors:
                shelf.save(temporary / f"{part}.safetensors")
        write_json(temporary / BLACKBOX_INFO, info)
        temporary.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            shutil.rmtree(temporary)
        raise
    return path


def _fit(shelves: dict[Part, Shelf], limit: int) -> list[dict[str, str]]:
    """Empty shelves, the least needed first, until they fit; return what was left out, and why."""
    left_out: list[dict[str, str]] = []
    for part in PARTS:
        total = sum(shelf.nbytes for shelf in shelves.values())
        if total <= limit:
            break
        if shelves[part].tensors:
            why = f"the box would take {total:,} bytes and --blackbox-limit is {limit:,}"
            left_out.append({"part": part, "why": why})
            shelves[part] = Shelf()
    return left_out


def _evidence_layout(evidence: Evidence | None, shelves: dict[Part, Shelf]) -> dict[str, Any]:
    if evidence is None:
        return {"fault": None, "culprit": None, "batch": None}
    left_out: list[dict[str, str]] = []

    def put(part: Part, name: str, tensor: Tensor) -> dict[str, Any]:
        why = why_not(tensor)
        if why is None:
            return {"$tensor": shelves[part].put(name, tensor)}
        left_out.append({"name": name, "why": why})
        return {"$left_out": why}

    def put_setting(value: object, path: str) -> dict[str, Any]:
        if isinstance(value, Tensor):
            return put("saved", f"settings{path}", value)
        if isinstance(value, torch.dtype):
            return {"$dtype": str(value).removeprefix("torch.")}
        return {"$left_out": f"a {type(value).__name__}"}

    culprit = None
    if evidence.op is not None:
        culprit = {
            "op": evidence.op,
            "inputs": {name: put("saved", name, each) for name, each in evidence.inputs.items()},
            "settings": encode(dict(evidence.settings), put_setting),
            "left_out": left_out,
        }
    batch = {name: put("batch", name, tensor) for name, tensor in evidence.batch.items()}
    return {"fault": dataclasses.asdict(evidence.fault), "culprit": culprit, "batch": batch}
