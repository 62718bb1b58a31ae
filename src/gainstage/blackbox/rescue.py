"""From a black box to a checkpoint: what `gainstage rescue` does."""

from __future__ import annotations

import base64
import contextlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from gainstage.blackbox.tensor_file import load_tensors
from gainstage.errors import RunFolderError
from gainstage.graph.nodes.finite import is_finite
from gainstage.store.blackbox import Box, find_box
from gainstage.store.state_tree import decode

_EXPRESSION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*|\[\d+\]|\['[\w .-]*'\])*")
"""What names a variable: nothing else of a box goes into Python that people will run."""


@dataclass(frozen=True, slots=True)
class Rescued:
    """A checkpoint that was written."""

    path: Path
    step: int
    """The step that failed: the weights are those from before it."""
    lines: Sequence[str]
    """Python that loads it."""
    notes: Sequence[str]
    """What is not in it, and what was put in its place."""


def rescue(run: Path, out: Path | None = None, rank: int | None = None) -> Rescued:
    """Write the checkpoint of a run that failed, for `torch.load(weights_only=True)`.

    It is `{"model", "optimizer", "step", "rng"}`, and `"scaler"` where there was one. `model` is a
    state dict; one for each root by its label where there are several roots.

    Args:
        run: The run's folder.
        out: The file; `rescue.pt` in the run's folder where not given.
        rank: Whose box; the first one there is where not given.

    Raises:
        RunFolderError: If there is no box, it is damaged, its weights are missing or not finite, or
            the file cannot be written.
    """
    box = find_box(run, rank)
    try:
        checkpoint, notes = _checkpoint(box)
        lines = _lines(box, checkpoint)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise RunFolderError(f"the black box {str(box.path)!r} is damaged: {error!r}") from error
    path = out if out is not None else run / f"rescue{f'.rank={box.rank}' if box.rank else ''}.pt"
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        torch.save(checkpoint, temporary)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise RunFolderError(f"cannot write {str(path)!r}: {error}") from error
    lines = [f"saved = torch.load({str(path)!r}, weights_only=True)", *lines]
    return Rescued(path, box.step, lines, notes)


def _checkpoint(box: Box) -> tuple[dict[str, Any], list[str]]:
    info = box.info
    model, notes = _model(box)
    optimizers: list[Any] = []
    why = box.why_missing("optimizer")
    if why is not None:
        notes.append(f"no optimizer state: {why}")
    elif info["optimizers"]:
        has_tensors = bool(info["bytes"]["optimizer"])
        tensors = load_tensors(box.file("optimizer")) if has_tensors else {}
        optimizers = [_optimizer(layout, tensors, notes) for layout in info["optimizers"]]
    evaluation = info["evaluation"]
    if evaluation > 1:
        notes.append(
            f"made within a step, at evaluation {evaluation} of its closure: the weights are those "
            "that it tried"
        )
    checkpoint = {"model": model, "optimizer": optimizers, "step": box.step}
    checkpoint["rng"] = _rng(info["rng"])
    if info["scaler"] is not None:
        checkpoint["scaler"] = info["scaler"]
    return checkpoint, notes


def _model(box: Box) -> tuple[dict[str, Any], list[str]]:
    why = box.why_missing("model")
    if why is not None:
        raise RunFolderError(f"the black box of step {box.step} has no weights: {why}")
    tensors = load_tensors(box.file("model"))
    layout = box.info["model"]
    notes = [f"{each['name']} is not in it: {each['why']}" for each in layout["left_out"]]
    labels = [root["label"] for root in layout["roots"]]
    model: dict[str, Any] = {label: {} for label in labels} if len(labels) > 1 else {}
    hurt: list[str] = []
    reset: list[str] = []
    for entry in layout["entries"]:
        tensor = tensors[entry["tensor"]]
        if entry["kind"] == "parameter" and not is_finite(tensor):
            hurt.append(entry["tensor"])
        elif entry["kind"] == "statistics" and not is_finite(tensor):
            reset.append(entry["tensor"])
            tensor = torch.full_like(tensor, entry["initial"])
        is_nested = len(labels) > 1 and entry["root"] is not None
        (model[labels[entry["root"]]] if is_nested else model)[entry["key"]] = tensor
    if hurt:
        more = f" and {len(hurt) - 1} more" if len(hurt) > 1 else ""
        raise RunFolderError(
            f"the weights were not finite any more before step {box.step}: {hurt[0]}{more}; "
            "there is nothing to rescue in this box"
        )
    if reset:
        notes.append(
            f"running statistics of batch norm were poisoned by the forward pass and begin anew "
            f"({', '.join(reset[:3])}{' ...' if len(reset) > 3 else ''}): train some steps before "
            "you evaluate; --guard keeps them"
        )
    return model, notes


def _optimizer(layout: dict[str, Any], tensors: dict[str, Tensor], notes: list[str]) -> Any:
    notes += [
        f"optimizer: {each['name']} is not in it: {each['why']}" for each in layout["left_out"]
    ]
    hurt: list[str] = []

    def take(tag: str, content: Any) -> Any:
        match tag:
            case "$tensor":
                if not is_finite(tensors[content]):
                    hurt.append(content)
                return tensors[content]
            case "$dtype":
                return getattr(torch, content)
            case "$left_out":
                return None
            case _:
                raise ValueError(f"unknown {tag}")

    state_dict = cast("dict[str, Any]", decode(layout["state_dict"], take))
    if hurt:
        notes.append(f"state of {layout['label']} was not finite ({hurt[0]}) and begins anew")
        state_dict["state"] = {}
    return state_dict


def _rng(states: dict[str, Any]) -> dict[str, Any]:
    """Return the states in the types that `random`, NumPy and torch take."""
    version, words, gauss = states["python"]
    rng: dict[str, Any] = {"python": (version, tuple(words), gauss)}
    for name, state in states.items():
        if name == "numpy":
            rng[name] = tuple(state)
        elif name == "torch":
            rng[name] = _as_tensor(state)
        elif name != "python":
            rng[name] = [_as_tensor(each) for each in state]
    return rng


def _as_tensor(text: str) -> Tensor:
    return torch.tensor(list(base64.b64decode(text)), dtype=torch.uint8)


def _lines(box: Box, checkpoint: dict[str, Any]) -> list[str]:
    """Return the Python that puts a checkpoint into the script's own objects."""
    model = box.info["model"]
    roots = [root["label"] for root in model["roots"]]
    said = [(label, f"load_state_dict(saved['model'][{label!r}])") for label in roots]
    if len(roots) == 1:
        said = [(roots[0], "load_state_dict(saved['model'])")]
    for number, layout in enumerate(box.info["optimizers"] if checkpoint["optimizer"] else []):
        said.append((layout["label"], f"load_state_dict(saved['optimizer'][{number}])"))
    loose = [entry["key"] for entry in model["entries"] if entry["root"] is None]
    said += [(key, f"data.copy_(saved['model'][{key!r}])") for key in loose]
    return [f"{name}.{call}" for name, call in said if _EXPRESSION.fullmatch(str(name))]
