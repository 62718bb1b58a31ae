"""The operation that failed, once more: what `gainstage replay` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gainstage.blackbox.tensor_file import load_tensors
from gainstage.errors import RunFolderError
from gainstage.graph.autopsy.replay import rederive
from gainstage.graph.autopsy.replay import reexecute as reexecute_
from gainstage.store.blackbox import find_box
from gainstage.store.state_tree import decode

Reexecute = Callable[[str, Mapping[str, Tensor], Mapping[str, Any]], Tensor]

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Replayed:
    """What an operation gave when it was computed again."""

    lines: list[str]
    """In words, with the values."""
    is_reproduced: bool
    """Whether the result was not finite again."""


def replay(run: Path, rank: int | None = None, *, reexecute: Reexecute | None = None) -> Replayed:
    """Compute the operation that failed again, from the inputs in the black box.

    Args:
        run: The run's folder.
        rank: Whose box; the first one there is where not given.
        reexecute: Takes the operation's name, its inputs and settings, and returns its result;
            `gainstage.graph.autopsy.replay` does it where not given.

    Raises:
        RunFolderError: If there is no box, it is damaged, or it holds no operation.
    """
    box = find_box(run, rank)
    culprit = box.info.get("culprit")
    if culprit is None:
        raise RunFolderError(
            f"the black box of step {box.step} holds no operation: the failure was seen only when "
            "its gradients reached the optimizer"
        )
    why = box.why_missing("saved")
    if why is not None:
        raise RunFolderError(f"the operation's inputs are not in the black box: {why}")
    if reexecute is None:
        reexecute = _again
    tensors = load_tensors(box.file("saved")) if box.file("saved").exists() else {}

    def take(tag: str, content: Any) -> Any:
        if tag == "$tensor":
            return tensors[content]
        if tag == "$dtype":
            return getattr(torch, content)
        raise ValueError(f"{content} is not in the box")

    try:
        op = str(culprit["op"])
        inputs: dict[str, Tensor] = decode(culprit["inputs"], take)
        settings: dict[str, Any] = decode(culprit["settings"], take)
        result = reexecute(op, inputs, settings)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise RunFolderError(
            f"the operation of step {box.step} cannot be computed again: {error}"
        ) from error
    return _told(box.step, op, inputs, settings, result, box.info.get("fault"))


def _again(kind: str, inputs: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Tensor:
    """Return the operation's result, or where that is finite its derivative, if that is not."""
    result = reexecute_(kind, inputs, settings)
    if bool(torch.isfinite(result).all()):
        for gradient in rederive(kind, inputs, settings).values():
            if not bool(torch.isfinite(gradient).all()):
                return gradient
    return result


def _told(
    step: int,
    op: str,
    inputs: Mapping[str, Tensor],
    settings: Mapping[str, Any],
    result: Tensor,
    fault: Mapping[str, Any] | None,
) -> Replayed:
    site = (fault or {}).get("site") or {}
    op = site.get("op") or op
    where = f"   {site['file']}:{site['line']}" if site.get("file") else ""
    module = f"   module {site['module']}" if site.get("module") else ""
    lines = [f"step {step}   {op}{where}{module}"]
    if fault and fault.get("message"):
        lines.append(f"box      {fault['message']}")
    for name, tensor in inputs.items():
        lines.append(f"input    {name} {_described(tensor)}")
    lines += [f"setting  {name} = {value}" for name, value in settings.items()]
    bad = torch.nonzero(~torch.isfinite(result))
    lines.append(f"result   {_described(result)}")
    for index in bad[:_SHOWN].tolist():
        place = tuple(index)
        seen = [
            f"{name}{list(place)} = {tensor[place].item():g}"
            for name, tensor in inputs.items()
            if tensor.shape == result.shape and not tensor.is_complex()
        ]
        came = f"   from {', '.join(seen)}" if seen else ""
        lines.append(f"         {list(place)} = {result[place].item()}{came}")
    if len(bad) > _SHOWN:
        lines.append(f"         and {len(bad) - _SHOWN:,} more")
    said = "not finite again" if len(bad) else "finite this time: not reproduced here"
    lines.append(f"{op} is {said}")
    return Replayed(lines, bool(len(bad)))


def _described(tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.shape)) or "scalar"
    kind = str(tensor.dtype).removeprefix("torch.")
    if not (tensor.is_floating_point() or tensor.is_complex()) or not tensor.numel():
        return f"{kind} {shape}"
    bad = int((~torch.isfinite(tensor)).sum())
    wide = (tensor.abs() if tensor.is_complex() else tensor).double()
    finite = wide[torch.isfinite(wide)]
    span = f", finite from {finite.min():g} to {finite.max():g}" if finite.numel() else ""
    return f"{kind} {shape}, {bad:,} of {tensor.numel():,} not finite{span}"
