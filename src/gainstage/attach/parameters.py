"""Names for parameters: the module that owns them, else the variable that holds them."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Iterator, Sequence
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from gainstage.records import TensorInfo

_TORCH = os.path.dirname(torch.__file__) + os.sep
_GAINSTAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_WRAPPERS = {
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "OptimizedModule": "_orig_mod",
}
_LARGEST_CONTAINER = 4096
"""A list longer than this is data, not parameters."""


def user_frames(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield the frames of the script, innermost first, leaving out torch's and gainstage's."""
    while frame is not None:
        if not frame.f_code.co_filename.startswith((_TORCH, _GAINSTAGE, "<frozen ")):
            yield frame
        frame = frame.f_back


def describe(parameters: Sequence[Tensor], frame: FrameType | None) -> list[TensorInfo]:
    """Return name, module, shape and dtype of each parameter.

    Looks for the modules that own them among the variables of the calling frames, then among all
    objects alive. Where two root modules use the same name (`net.0.weight` of a generator and of a
    discriminator), names begin with the variable that holds the root. Parameters that no module
    owns are called after their variable (`w1`, `params[3]`, `weights['out']`).

    Args:
        parameters: In the order wanted.
        frame: Where to begin looking, usually the caller of `optimizer.step()`.
    """
    scopes = [_variables(each) for each in user_frames(frame)]
    wanted = {id(parameter) for parameter in parameters}
    owned = _owned(_roots(_modules_in(scopes)), wanted)
    if len(owned) < len(wanted):
        alive = [
            (type(each).__name__, each)
            for each in gc.get_objects()
            if issubclass(type(each), nn.Module)
        ]
        missing = wanted - owned.keys()
        owned |= _owned(_roots(_unwrapped(alive)), missing)
    names = [owned[id(p)][1] for p in parameters if id(p) in owned]
    ambiguous = len(set(names)) < len(names)
    variables = _variable_names(scopes, wanted - owned.keys())
    described: list[TensorInfo] = []
    for position, parameter in enumerate(parameters):
        module: str | None = None
        if id(parameter) in owned:
            root, name = owned[id(parameter)]
            module = name.rpartition(".")[0]
            name = f"{root}.{name}" if ambiguous else name
        else:
            name = variables.get(id(parameter), f"parameter_{position}")
        dtype = str(parameter.dtype).removeprefix("torch.")
        described.append(TensorInfo(name, module, tuple(parameter.shape), dtype))
    return described


def _variables(frame: FrameType) -> dict[str, Any]:
    return dict(frame.f_locals)


def _attributes(value: object) -> dict[str, Any]:
    """Return an object's own attributes, without running code of its class."""
    if isinstance(value, (type, nn.Module, Tensor)) or type(value).__module__ == "builtins":
        return {}
    try:
        return dict(object.__getattribute__(value, "__dict__"))
    except AttributeError:
        return {}


def _modules_in(scopes: Iterable[dict[str, Any]]) -> list[tuple[str, nn.Module]]:
    """Return the modules held by variables, or by attributes of what variables hold."""
    found: list[tuple[str, nn.Module]] = []
    for scope in scopes:
        for name, value in scope.items():
            if issubclass(type(value), nn.Module):
                found.append((name, value))
            else:
                held = _attributes(value).items()
                found.extend((n, v) for n, v in held if issubclass(type(v), nn.Module))
    return _unwrapped(found)


def _unwrapped(modules: Iterable[tuple[str, nn.Module]]) -> list[tuple[str, nn.Module]]:
    """Replace wrappers by what they wrap, each module once."""
    plain: dict[int, tuple[str, nn.Module]] = {}
    for name, module in modules:
        while (inner := _WRAPPERS.get(type(module).__name__)) and hasattr(module, inner):
            module = getattr(module, inner)
        plain.setdefault(id(module), (name, module))
    return list(plain.values())


def _roots(modules: list[tuple[str, nn.Module]]) -> list[tuple[str, nn.Module]]:
    """Leave out modules that are part of another one."""
    parts: set[int] = set()
    for _, module in modules:
        if id(module) not in parts:
            parts.update(id(child) for child in module.modules() if child is not module)
    return [(name, module) for name, module in modules if id(module) not in parts]


def _owned(
    roots: Iterable[tuple[str, nn.Module]], wanted: set[int]
) -> dict[int, tuple[str, str]]:
    """Map the id of each wanted parameter to its root's label and its name in there."""
    owned: dict[int, tuple[str, str]] = {}
    for label, root in roots:
        for name, parameter in root.named_parameters():
            if id(parameter) in wanted:
                owned.setdefault(id(parameter), (label, name))
    return owned


def _variable_names(scopes: list[dict[str, Any]], wanted: set[int]) -> dict[int, str]:
    names: dict[int, str] = {}
    for scope in scopes if wanted else []:
        for name, value in scope.items():
            for label, held in _held(name, value):
                if id(held) in wanted:
                    names.setdefault(id(held), label)
    return names


def _held(name: str, value: object, depth: int = 0) -> Iterator[tuple[str, object]]:
    """Yield what a variable holds, with an expression that reaches it."""
    yield name, value
    if depth == 2:
        return
    if type(value) is dict and len(value) <= _LARGEST_CONTAINER:
        for key, item in list(value.items()):
            yield from _held(f"{name}[{key!r}]", item, depth + 1)
    elif type(value) in (list, tuple) and len(value) <= _LARGEST_CONTAINER:  # pyright: ignore
        for position, item in enumerate(value):  # pyright: ignore
            yield from _held(f"{name}[{position}]", item, depth + 1)
    elif depth == 0:
        for key, item in _attributes(value).items():
            yield from _held(f"{name}.{key}", item, depth + 1)
