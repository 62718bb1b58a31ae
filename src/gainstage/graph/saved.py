"""Reading what a node saved in the forward pass, without disturbing anything.

A saved tensor may be packed away by hooks (activation checkpointing, offloading), freed by a backward
call, or overwritten in place since: all of these read as None. Hooks are never run.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gainstage.graph.walk import Node

PREFIX = "_saved_"
INDEX_OF_NONE = 2**63
"""torch shows negative indices as unsigned numbers from here on."""

_names: dict[type, tuple[str, ...]] = {}


def saved_names(node: Node) -> tuple[str, ...]:
    """Return the arguments and results that nodes of this kind save, such as `self` and `dim`."""
    kind = type(node)
    if kind not in _names:
        _names[kind] = tuple(
            name.removeprefix(PREFIX) for name in dir(kind) if name.startswith(PREFIX)
        )
    return _names[kind]


def read(node: Node, name: str) -> Any:
    """Return one saved argument: a tensor, a setting, or None where the script gave None.

    A tensor keeps its `grad_fn` and `output_nr`, which tell whose value it is.

    Raises:
        LookupError: If this kind saves no such argument, or it cannot be read.
    """
    if name not in saved_names(node) or is_packed(node, name):
        raise LookupError(name)
    try:
        return signed(getattr(node, PREFIX + name))
    except (RuntimeError, ValueError) as error:  # freed, or modified in place
        raise LookupError(name) from error


def saved(node: Node, name: str) -> Any:
    """Return one saved argument, or None where there is none to be read."""
    try:
        return read(node, name)
    except LookupError:
        return None


def is_packed(node: Node, name: str) -> bool:
    """Return whether reading the tensor would run somebody's unpack hook."""
    raw = getattr(node, f"_raw_saved_{name}", None)
    each = raw if isinstance(raw, (tuple, list)) else (raw,)
    return any(getattr(one, "unpack_hook", None) is not None for one in each)


def saved_tensors(node: Node) -> list[tuple[str, Tensor]]:
    """Return all tensors that the node saved and that can be read, with their names.

    Those of a `torch.autograd.Function` are called `saved0`, `saved1`, …
    """
    found: list[tuple[str, Tensor]] = []
    for name in saved_names(node):
        value = saved(node, name)
        if isinstance(value, Tensor):
            found.append((name, value))
    if not hasattr(node, "_raw_saved_tensors") or is_packed(node, "tensors"):
        return found
    try:
        custom = node.saved_tensors
    except (RuntimeError, ValueError):
        return found
    return found + [(f"saved{i}", t) for i, t in enumerate(custom) if isinstance(t, Tensor)]


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
