"""Names for parameters: the module that owns them, else the variable that holds them."""

from __future__ import annotations

import gc
import inspect
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

import gainstage
from gainstage.attach.names.layouts import layouts_of
from gainstage.facts.tensor import TensorInfo

_TORCH = os.path.dirname(torch.__file__) + os.sep
_GAINSTAGE = os.path.dirname(os.path.abspath(gainstage.__file__)) + os.sep
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


def describe(
    parameters: Sequence[Tensor], frame: FrameType | None, model: nn.Module | None = None
) -> list[tuple[Tensor, TensorInfo]]:
    """Return each parameter with its name, module, shape and dtype, in the order of the model.

    Looks for the modules that own them among the variables of the calling frames, then for
    variables that hold them, then for modules among all objects alive. Where two root modules use
    the same name (`net.0.weight` of a generator and of a discriminator), names begin with the
    variable that holds the root. Parameters that no module owns are called after their variable
    (`w1`, `params[3]`, `weights['out']`) and come last, in the order given.

    Args:
        parameters: No two the same.
        frame: Where to begin looking, usually the caller of `optimizer.step()`.
        model: A module to look into besides.
    """
    scopes = _scopes(frame, model)
    wanted = {id(parameter): parameter for parameter in parameters}
    owned = _owned(_roots(_modules_in(scopes)), wanted.keys())
    variables = _variable_names(scopes, wanted.keys() - owned.keys())
    missing = wanted.keys() - owned.keys() - variables.keys()
    if missing:
        alive = [
            (type(each).__name__, each)
            for each in gc.get_objects()
            if issubclass(type(each), nn.Module)
        ]
        owned |= _owned(_roots(_unwrapped(alive)), missing)
    names = [name for _, name in owned.values()]
    ambiguous = len(set(names)) < len(names)
    layouts = layouts_of(parameters)
    described: list[tuple[Tensor, TensorInfo]] = []
    for key in [*owned, *(key for key in wanted if key not in owned)]:
        module: str | None = None
        if key in owned:
            root, name = owned[key]
            module = name.rpartition(".")[0]
            name = f"{root}.{name}" if ambiguous else name
        else:
            name = variables.get(key, "parameter")
        parameter = wanted[key]
        dtype = str(parameter.dtype).removeprefix("torch.")
        layout = layouts.get(key)
        info = TensorInfo(name, module, tuple(parameter.shape), dtype, layout)
        described.append((parameter, info))
    return described


def modules_in_frames(
    frame: FrameType | None, model: nn.Module | None = None
) -> list[tuple[str, nn.Module]]:
    """Return the root modules that variables of the calling frames hold, with the variables' names.

    Args:
        frame: Where to begin looking.
        model: A module to take in besides.
    """
    return _roots(_modules_in(_scopes(frame, model)))


def _scopes(frame: FrameType | None, model: nn.Module | None) -> list[dict[str, Any]]:
    scopes = [variables_in(each) for each in user_frames(frame)]
    if model is not None:
        scopes.append({"model": model})
    return scopes


def root_modules(
    parameters: Sequence[Tensor], frame: FrameType | None, model: nn.Module | None = None
) -> list[tuple[str, nn.Module]]:
    """Return the outermost modules that own any of the parameters, each with a label of its own.

    Looks where `describe` looks; the label is the variable that holds the module, else its class.
    """
    scopes = [variables_in(each) for each in user_frames(frame)]
    if model is not None:
        scopes.append({"model": model})
    wanted = {id(parameter) for parameter in parameters}
    found: list[tuple[str, nn.Module]] = []
    for looked_at in (_modules_in(scopes), None):
        if looked_at is None and wanted:
            looked_at = _unwrapped(
                (type(each).__name__, each)
                for each in gc.get_objects()
                if issubclass(type(each), nn.Module)
            )
        for label, root in _roots(looked_at or []):
            owned = wanted & {id(parameter) for parameter in root.parameters()}
            if owned:
                wanted -= owned
                found.append((label, root))
    labels: set[str] = set()
    named: list[tuple[str, nn.Module]] = []
    for label, root in found:
        unique, number = label, 2
        while unique in labels:
            unique, number = f"{label}{number}", number + 1
        labels.add(unique)
        named.append((unique, root))
    return named


def variables_of(values: Sequence[object], frame: FrameType | None) -> dict[int, str]:
    """Return by id the variable of the calling frames that holds each value, where one does."""
    scopes = [variables_in(each) for each in user_frames(frame)]
    return _variable_names(scopes, {id(value) for value in values})


def named_modules(model: nn.Module | None = None) -> list[tuple[str, nn.Module]]:
    """Return all modules alive by their name within their root; the roots themselves are ''.

    Walks all objects of the process: some tens of ms.

    Args:
        model: A module to take first, whose wrappers are left out.
    """
    alive = [("", each) for each in gc.get_objects() if issubclass(type(each), nn.Module)]
    first = [] if model is None else [("", model)]
    roots = _roots(_unwrapped([*first, *alive]))
    named: dict[int, tuple[str, nn.Module]] = {}
    for _, root in roots:
        for name, module in root.named_modules():
            named.setdefault(id(module), (name, module))
    return list(named.values())


def variables_in(frame: FrameType) -> dict[str, Any]:
    """Return the variables of a frame, and leave nothing behind that keeps them alive.

    Before Python 3.13 a function's `f_locals` is a snapshot that its frame holds on to: the loss of
    the first step would live as long as the training loop. It is emptied, unless somebody else
    (who called `locals()`) has it too.
    """
    snapshot = frame.f_locals
    variables = dict(snapshot)
    holders = sys.getrefcount(snapshot)
    is_function = frame.f_code.co_flags & inspect.CO_OPTIMIZED
    if is_function and sys.version_info < (3, 13) and holders <= 3:
        snapshot.clear()
    return variables


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
    roots: Iterable[tuple[str, nn.Module]], wanted: Collection[int]
) -> dict[int, tuple[str, str]]:
    """Map the id of each wanted parameter to its root's label and its name in there."""
    owned: dict[int, tuple[str, str]] = {}
    for label, root in roots:
        for name, parameter in root.named_parameters():
            if id(parameter) in wanted:
                owned.setdefault(id(parameter), (label, name))
    return owned


def _variable_names(scopes: list[dict[str, Any]], wanted: Collection[int]) -> dict[int, str]:
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
