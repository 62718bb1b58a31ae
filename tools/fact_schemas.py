"""The JSON Schema of a fact: types and ranges by msgspec, descriptions from docstrings."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import sys
import textwrap
from collections.abc import Collection, Mapping
from typing import Any, get_args, get_type_hints

import msgspec

Schema = dict[str, Any]
Changes = Mapping[tuple[str, str], Schema]

NUMBER: Schema = {
    "description": "A number; NaN and infinities, which JSON lacks, are strings.",
    "anyOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}],
}


def class_schema(
    fact: type, changes: Changes, *, sparse: Collection[str] = (), is_open: bool = False
) -> Schema:
    """Return the schema of a dataclass as its JSON is written.

    Args:
        fact: The class.
        changes: By class and key: what stands there instead, or besides what the class has.
        sparse: Classes of which JSON leaves out what has its default.
        is_open: Whether keys that the class does not have may stand there.
    """
    said = _descriptions(fact)
    hints = get_type_hints(fact, include_extras=True)
    properties: dict[str, Schema] = {}
    required: list[str] = []
    for each in dataclasses.fields(fact):
        key = each.metadata.get("json", each.name)
        changed = changes.get((fact.__name__, key))
        about = {"description": said[each.name]} if each.name in said else {}
        is_optional = each.metadata.get("omit") or fact.__name__ in sparse
        if changed is None:
            changed = _of_type(hints[each.name], is_optional=bool(is_optional))
        properties[key] = {**about, **changed}
        if not is_optional:
            required.append(key)
    for (name, key), schema in changes.items():
        if name == fact.__name__ and key not in properties:
            properties[key] = {each: value for each, value in schema.items() if each != "optional"}
            required += [] if "optional" in schema else [key]
    return {
        "description": (inspect.getdoc(fact) or "").split("\n\n")[0].replace("\n", " "),
        "type": "object",
        "properties": properties,
        "required": sorted(required),
        **({} if is_open else {"additionalProperties": False}),
    }


def classes_within(fact: Any) -> dict[str, type]:
    """Return by name a dataclass and all that its fields are made of."""
    found: dict[str, type] = {}
    waiting = [fact]
    while waiting:
        kind = waiting.pop()
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            if kind.__name__ not in found:
                found[kind.__name__] = kind
                waiting += get_type_hints(kind, include_extras=True).values()
        else:
            waiting += [each for each in get_args(kind) if not isinstance(each, str)]
    return found


def _of_type(hint: Any, *, is_optional: bool) -> Schema:
    """Return the schema of a field; one that is left out where it is None is never null."""
    (schema,), _ = msgspec.json.schema_components((hint,), ref_template="#/$defs/{name}")
    plain = _tidy(schema)
    kinds = [each for each in plain.get("anyOf", ()) if each != {"type": "null"}]
    if is_optional and 0 < len(kinds) < len(plain["anyOf"]):
        return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    return plain


def _tidy(schema: Any) -> Any:
    """Return a schema of msgspec's with the floats that are not finite, and without titles."""
    if isinstance(schema, list):
        return [_tidy(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "number" and not {"minimum", "maximum"} & set(schema):
        return {"$ref": "#/$defs/JsonNumber"}
    if schema.get("maximum") == sys.float_info.max:
        least = schema.get("minimum", -sys.float_info.max)
        return {"type": "number", **({"minimum": least} if least > -sys.float_info.max else {})}
    return {key: _tidy(value) for key, value in schema.items() if key not in ("title", "default")}


def _descriptions(fact: type) -> dict[str, str]:
    """Return by field the docstring that stands below it."""
    source = textwrap.dedent(inspect.getsource(sys.modules[fact.__module__]))
    body = next(
        node.body
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == fact.__name__
    )
    said: dict[str, str] = {}
    for node, below in itertools.pairwise(body):
        is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and is_text:
            said[node.target.id] = inspect.cleandoc(str(below.value.value)).replace("\n", " ")
    return said
