"""What a training consists of: its model, its optimizers, its random generators. Only read here."""

from __future__ import annotations

import base64
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer

from gainstage.blackbox.tensor_file import TensorFile, why_not
from gainstage.graph.nodes.finite import is_finite
from gainstage.store.state_tree import encode

_INITIAL = {"running_mean": 0.0, "running_var": 1.0}
"""What `reset_running_stats` sets."""


@dataclass(frozen=True, slots=True)
class Training:
    """What is to be kept of a training, found and not read yet."""

    roots: Sequence[tuple[str, nn.Module]]
    """The outermost modules, each with a label of its own."""
    parameters: Mapping[str, Tensor]
    """All watched parameters, by the names of the record."""
    optimizers: Sequence[tuple[str, Optimizer]]
    """With the variable that holds each."""
    scaler: Mapping[str, Any] | None = None
    """State of the `GradScaler`, where there is one."""
    statistics: Mapping[int, Tensor] = field(default_factory=dict[int, Tensor])
    """By the id of a buffer of batch norm: its value before the step's forward passes."""
    lrs: Mapping[int, Any] = field(default_factory=dict[int, Any])
    """By the id of a group of an optimizer: its learning rate, where a treatment has lowered it."""


def model_layout(training: Training, file: TensorFile) -> dict[str, Any]:
    """Put parameters and buffers into the file and return which entry of a state dict each is.

    The entries of a root are those of its `state_dict()`, tied weights under each of their names,
    found without calling it: it may run hooks of the script's, which may be collective.
    """
    names = {id(tensor): name for name, tensor in training.parameters.items()}
    entries: list[dict[str, Any]] = []
    left_out: list[dict[str, str]] = []
    several = len(training.roots) > 1

    def add(root: int | None, key: str, tensor: Tensor, **fields: Any) -> None:
        label = f"{training.roots[root][0]}.{key}" if several and root is not None else key
        source = training.statistics.get(id(tensor), tensor)
        why = why_not(source)
        if why is not None:
            left_out.append({"name": label, "why": why})
            return
        entry = {"root": root, "key": key, "tensor": file.put(label, source), **fields}
        entries.append(entry | ({"record": names[id(tensor)]} if id(tensor) in names else {}))

    owned: set[int] = set()
    for number, (_, root) in enumerate(training.roots):
        for prefix, module in root.named_modules(remove_duplicate=False):
            dot = f"{prefix}." if prefix else ""
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    owned.add(id(parameter))
                    add(number, dot + name, parameter, kind="parameter")
            for name, buffer in module._buffers.items():
                if buffer is not None and name not in module._non_persistent_buffers_set:
                    add(number, dot + name, buffer, **_kind_of_buffer(module, name, buffer))
            if type(module).get_extra_state is not nn.Module.get_extra_state:
                extra = f"{dot}_extra_state"
                left_out.append({"name": extra, "why": "the module's own code makes it"})
    for name, parameter in training.parameters.items():
        if id(parameter) not in owned:
            add(None, name, parameter, kind="parameter")
    # By class only: text, for whoever reads the box.
    roots = [{"label": label, "class": type(root).__name__} for label, root in training.roots]
    poisoned = [
        entry["tensor"]
        for entry in entries
        if entry["kind"] == "statistics" and not is_finite(file.tensors[entry["tensor"]])
    ]
    return {
        "roots": roots,
        "entries": entries,
        "left_out": left_out,
        "poisoned": poisoned,
        "statistics": "from before the step" if training.statistics else "as the step left them",
    }


def _kind_of_buffer(module: nn.Module, name: str, buffer: Tensor) -> dict[str, Any]:
    if isinstance(module, _NormBase) and name in _INITIAL and buffer.is_floating_point():
        return {"kind": "statistics", "initial": _INITIAL[name]}
    return {"kind": "buffer"}


def optimizer_layout(training: Training, number: int, file: TensorFile) -> dict[str, Any]:
    """Put an optimizer's tensors into the file and return the rest, as its state dict has it.

    Args:
        training: Has the optimizer, of any kind; what its state holds besides plain values and
            tensors is left out.
        number: Its place there.
        file: Takes the tensors.
    """
    label, optimizer = training.optimizers[number]
    names = {id(tensor): name for name, tensor in training.parameters.items()}
    left_out: list[dict[str, str]] = []

    def put(value: object, path: str) -> dict[str, Any]:
        name = f"{number}{path}"
        if isinstance(value, Tensor):
            why = why_not(value)
            if why is None:
                return {"$tensor": file.put(name, value)}
        elif isinstance(value, torch.dtype):
            return {"$dtype": str(value).removeprefix("torch.")}
        else:
            why = f"a {type(value).__name__}"
        left_out.append({"name": name, "why": why})
        return {"$left_out": why}

    index: dict[int, int] = {}
    groups: list[dict[str, Any]] = []
    parameters: list[str | None] = []
    for group in optimizer.param_groups:
        members = cast("Sequence[Tensor]", group["params"])
        for parameter in members:
            if id(parameter) not in index:
                index[id(parameter)] = len(index)
                parameters.append(names.get(id(parameter)))
        indices = [index[id(parameter)] for parameter in members]
        own = {"lr": training.lrs[id(group)]} if id(group) in training.lrs else {}
        groups.append({**group, **own, "params": indices})
    state: dict[object, object] = {}
    for key, value in cast("Mapping[object, object]", optimizer.state).items():
        if not isinstance(key, Tensor):
            state[key] = value
        elif id(key) in index:
            state[index[id(key)]] = value
        else:
            left_out.append({"name": f"{number}/state", "why": "of a parameter it no longer has"})
    return {
        "label": label,
        "class": f"{type(optimizer).__module__}.{type(optimizer).__qualname__}",
        "parameters": parameters,
        "state_dict": encode({"state": state, "param_groups": groups}, put),
        "left_out": left_out,
    }


def rng_states() -> dict[str, Any]:
    """Return the states of the global random generators in JSON's types. Draws nothing.

    NumPy's only where the script has imported it, an accelerator's only where it is in use.
    Generators that the script has made for itself are not among them.
    """
    states: dict[str, Any] = {"python": _as_lists(random.getstate())}
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        kind, keys, *rest = numpy.get_state(legacy=True)
        states["numpy"] = [str(kind), keys.tolist(), *rest]
    states["torch"] = _as_text(torch.get_rng_state())
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None:
        device = torch.get_device_module(accelerator)
        if not hasattr(device, "is_initialized") or device.is_initialized():
            states[accelerator.type] = [
                _as_text(device.get_rng_state(number) if count > 1 else device.get_rng_state())
                for count in [torch.accelerator.device_count()]
                for number in range(count)
            ]
    return states


def _as_lists(value: Any) -> Any:
    return [_as_lists(item) for item in value] if isinstance(value, tuple) else value


def _as_text(state: Tensor) -> str:
    return base64.b64encode(bytes(state.tolist())).decode()
