"""Facts as JSON and back: decoding checks types and ranges, so that no reader has to.

JSON has no number for NaN and the infinities: they are written as "nan", "inf" and "-inf", and
become numbers again where a fact says that a float stands there. A fact whose class has `tag` and
`kinds` is decoded by what stands under the tag, which names the class of its `evidence`.
"""

from __future__ import annotations

import json
import math
import re
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec
import numpy as np

Fact = TypeVar("Fact")
_SURROGATE = re.compile("[\\ud800-\\udfff]")
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class DecodeError(ValueError):
    """JSON that is not the fact that it should be."""


def json_safe(value: object) -> Any:
    """Return a fact, or any value, in the types that JSON has.

    What Python writes for NaN by default (`NaN`) is refused by browsers and by other languages;
    `float("nan")` reads the strings back. NumPy scalars and arrays become numbers and lists;
    anything else without a JSON type becomes its `str`.

    Example:
        >>> json_safe({"loss": float("nan"), "shape": (2, 3)})
        {'loss': 'nan', 'shape': [2, 3]}
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, float | np.floating):
        return _number(float(value))
    if isinstance(value, np.ndarray | np.generic):
        return json_safe(cast("object", value.tolist()))
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {str(key): json_safe(item) for key, item in items}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_safe(item) for item in cast("list[object]", value)]
    if is_dataclass(value) and not isinstance(value, type):
        return _fields_of(value)
    return int(value) if isinstance(value, int) else str(value)


def to_json(value: object, *, indent: int | None = None) -> str:
    """Return a fact, or any value, as JSON that every reader takes (see `json_safe`)."""
    safe = json_safe(value)
    text = json.dumps(safe, indent=indent, allow_nan=False, ensure_ascii=False)
    # A file name that is not UTF-8 comes as lone surrogates, which can only be written as escapes.
    lone = _SURROGATE.search(text)
    return json.dumps(safe, indent=indent, allow_nan=False) if lone else text


def from_json(text: str | bytes, fact: type[Fact]) -> Fact:
    """Return the fact that JSON holds.

    Raises:
        DecodeError: If it is no JSON, or not of that fact.
    """
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"it is not JSON: {error}") from error
    return from_builtins(value, fact)


def from_builtins(value: object, fact: type[Fact]) -> Fact:
    """Return the fact that a value in the types of JSON is; keys that it does not know are ignored.

    Raises:
        DecodeError: If a key is missing, or a value has another type or is out of its range.
    """
    try:
        kind = _of_kind(value, fact)
        return msgspec.convert(_restored(value, kind), kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise DecodeError(str(error)) from error


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def _fields_of(fact: Any) -> dict[str, Any]:
    tag = getattr(type(fact), "tag", None)
    written = {} if tag is None else {tag: fact.evidence.kind}
    for each in fields(fact):
        value = getattr(fact, each.name)
        if value is not None or not each.metadata.get("omit"):
            written[each.metadata.get("json", each.name)] = json_safe(value)
    return written


def _of_kind(value: object, fact: Any) -> Any:
    """Return the type of a fact, with that of its evidence where a tag names it."""
    tag: str | None = getattr(fact, "tag", None)
    if tag is None or get_origin(fact) is not None:
        return fact
    name = cast("dict[str, Any]", value).get(tag) if isinstance(value, dict) else None
    kind = fact.kinds.get(name) if isinstance(name, str) else None
    if kind is None:
        raise DecodeError(f"there is no {tag} {name!r}")
    return fact[kind]


def _restored(value: Any, kind: Any) -> Any:
    """Return JSON of a type with its floats that are not finite, and with its fields' own names."""
    if isinstance(value, str):
        return _NOT_FINITE.get(value, value) if float in _choices(kind) else value
    if isinstance(value, dict):
        return _restored_fields(cast("dict[str, Any]", value), kind)
    if isinstance(value, list):
        items = _items_type(kind)
        if items is None:
            return cast("object", value)
        return [_restored(each, items) for each in cast("list[Any]", value)]
    return value


def _restored_fields(value: dict[str, Any], kind: Any) -> dict[str, Any]:
    for choice in _choices(kind):
        if is_dataclass(get_origin(choice) or choice):
            known = _fields_by_key(choice)
            return {
                name: _restored(item, hint)
                for key, item in value.items()
                for name, hint in [known.get(key, (key, None))]
            }
        if get_origin(choice) in (dict, Mapping):
            return {key: _restored(item, get_args(choice)[1]) for key, item in value.items()}
    return value


@cache
def _choices(kind: Any) -> tuple[Any, ...]:
    """Return the types that a value may have: the members of a union, without annotations."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _choices(get_args(kind)[0])
    if origin in (Union, types.UnionType):
        return tuple(choice for member in get_args(kind) for choice in _choices(member))
    return (kind,)


@cache
def _items_type(kind: Any) -> Any:
    """Return the type of a list's items; None where nothing in them is to be restored."""
    for choice in _choices(kind):
        if get_origin(choice) in (tuple, list):
            items = get_args(choice)[0]
            plain = {int, str, bool, type(None)}
            return None if plain.issuperset(_choices(items)) else items
    return None


@cache
def _fields_by_key(fact: Any) -> dict[str, tuple[str, Any]]:
    """Return by its key in JSON the name and the type of each field of a fact."""
    origin = get_origin(fact) or fact
    hints = get_type_hints(origin, include_extras=True)
    given = dict(zip(getattr(origin, "__parameters__", ()), get_args(fact), strict=False))
    return {
        each.metadata.get("json", each.name): (
            each.name,
            given.get(hints[each.name], hints[each.name]),
        )
        for each in fields(origin)
    }
