"""Nested Python values as JSON and back, exactly, with tensors kept elsewhere by name.

What JSON has no type for becomes an object with one key that begins with `$`: `{"$float": "nan"}`,
`{"$tuple": [..]}`, `{"$pairs": [[key, value], ..]}` for a dictionary whose keys are not all plain
strings, `{"$complex": [re, im]}`. Whatever else there is the caller names:
`{"$tensor": "0/exp_avg"}`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

import numpy as np

Put: TypeAlias = Callable[[object, str], dict[str, Any]]
"""Takes a value that is none of Python's plain ones, and its path; returns its `$` object."""
Take: TypeAlias = Callable[[str, Any], Any]
"""Takes the `$` key and what stands under it; returns the value."""

_DEEPEST = 32


def encode(value: object, put: Put, path: str = "") -> Any:
    """Return `value` in JSON's types; a value of another kind goes to `put`.

    Example:
        >>> encode({"betas": (0.9, 0.999), 0: None}, lambda value, path: {"$left_out": path})
        {'$pairs': [['betas', {'$tuple': [0.9, 0.999]}], [0, None]]}
    """
    if path.count("/") > _DEEPEST:
        return put(value, path)
    if isinstance(value, np.generic):
        value = cast("object", value.item())
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
    if isinstance(value, complex):
        return {"$complex": [encode(value.real, put), encode(value.imag, put)]}
    if isinstance(value, list | tuple):
        items = cast("list[object]", value)
        listed = [encode(item, put, f"{path}/{number}") for number, item in enumerate(items)]
        return listed if isinstance(value, list) else {"$tuple": listed}
    if isinstance(value, Mapping):
        entries = cast("Mapping[object, object]", value).items()
        pairs = [[encode(k, put, path), encode(v, put, f"{path}/{k}")] for k, v in entries]
        if all(isinstance(key, str) and not key.startswith("$") for key, _ in entries):
            return dict(pairs)
        return {"$pairs": pairs}
    return put(value, path)


def decode(value: Any, take: Take) -> Any:
    """Return the value that `encode` was given; tuples and dictionaries are plain ones.

    Raises:
        ValueError: If it is not what `encode` returns.
    """
    if isinstance(value, list):
        return [decode(item, take) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    entries = cast("dict[str, Any]", value)
    if len(entries) == 1:
        tag, content = next(iter(entries.items()))
        if tag.startswith("$"):
            return _tagged(tag, content, take)
    return {key: decode(item, take) for key, item in entries.items()}


def _tagged(tag: str, content: Any, take: Take) -> Any:
    try:
        match tag:
            case "$float":
                return float(content)
            case "$complex":
                return complex(*(decode(part, take) for part in content))
            case "$tuple":
                return tuple(decode(item, take) for item in content)
            case "$pairs":
                return {decode(key, take): decode(item, take) for key, item in content}
            case _:
                return take(tag, content)
    except TypeError as error:
        raise ValueError(f"malformed {tag}: {error}") from error
