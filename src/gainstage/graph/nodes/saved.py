"""Reading what a node saved in the forward pass, without disturbing anything.

A saved tensor may be packed away by hooks (activation checkpointing, offloading), freed by a
backward call, overwritten in place since, or refused by the gate: all of these read as None. Hooks
are never run.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd.function import BackwardCFunction

from gainstage.graph.nodes.walk import Node
from gainstage.readable import has_memory

PREFIX = "_saved_"
INDEX_OF_NONE = 2**63
"""torch shows negative indices as unsigned numbers from here on."""

_layouts: dict[type, dict[str, tuple[str, str | None]]] = {}
"""By kind and argument: the attribute to read, and for tensors the one that tells of hooks."""


def layout_of(node: Node) -> dict[str, tuple[str, str | None]]:
    """Return what nodes of this kind save: by argument or result, the attributes that hold it."""
    kind = type(node)
    layout = _layouts.get(kind)
    if layout is None:
        known = set(dir(kind))
        names = sorted(name.removeprefix(PREFIX) for name in known if name.startswith(PREFIX))
        raws = {name: f"_raw{PREFIX}{name}" for name in names}
        layout = {n: (PREFIX + n, raws[n] if raws[n] in known else None) for n in names}
        if not issubclass(kind, BackwardCFunction):
            _layouts[kind] = layout  # a class of the script's own would be kept, with all it knows
    return layout


def read(node: Node, name: str) -> Any:
    """Return one saved argument: a tensor, a setting, or None where the script gave None.

    A tensor keeps its `grad_fn` and `output_nr`, which tell whose value it is.

    Raises:
        LookupError: If this kind saves no such argument, or it cannot be read.
    """
    attribute, raw = layout_of(node)[name]
    if raw is not None and is_packed(getattr(node, raw)):
        raise LookupError(name)
    try:
        value = getattr(node, attribute)
    except (RuntimeError, ValueError) as error:  # freed, or modified in place
        raise LookupError(name) from error
    if not isinstance(value, Tensor):
        return signed(value)
    if not has_memory(value):
        raise LookupError(name)
    return value


def saved(node: Node, name: str) -> Any:
    """Return one saved argument, or None where there is none to be read."""
    try:
        return read(node, name)
    except LookupError:
        return None


def is_packed(raw: Any) -> bool:
    """Return whether reading the tensor, or one of several, would run somebody's unpack hook."""
    if isinstance(raw, (tuple, list)):
        return any(is_packed(each) for each in raw)
    return getattr(raw, "unpack_hook", None) is not None


def saved_tensors(node: Node) -> list[tuple[str, Tensor]]:
    """Return all tensors that the node saved and that can be read, with their names.

    Those of a `torch.autograd.Function` are called `saved0`, `saved1`, …
    """
    found: list[tuple[str, Tensor]] = []
    for name, (_, raw) in layout_of(node).items():
        value = None if raw is None else saved(node, name)
        if isinstance(value, Tensor):
            found.append((name, value))
    if not hasattr(node, "_raw_saved_tensors") or is_packed(node._raw_saved_tensors):
        return found
    try:
        custom = node.saved_tensors
    except (RuntimeError, ValueError):
        return found
    return found + [
        (f"saved{i}", t) for i, t in enumerate(custom) if isinstance(t, Tensor) and has_memory(t)
    ]


def output_shape(node: Node, output: int = 0) -> tuple[int, ...] | None:
    """Return the shape of one output; None where torch does not tell."""
    metadata = getattr(node, "_input_metadata", ())
    if output >= len(metadata) or metadata[output].is_nested_tensor:
        return None
    return tuple(int(size) for size in metadata[output].shape)


def signed(value: Any) -> Any:
    """Return a setting with the unsigned form of negative indices undone."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= INDEX_OF_NONE:
        return value - 2**64
    if isinstance(value, tuple):
        return tuple(signed(each) for each in value)
    return value
