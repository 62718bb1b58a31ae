"""TypeScript types from JSON Schemas: those that `fact_schemas` writes, no more."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

_HEAD = "/** Written by `make schemas` from the facts of gainstage.facts: do not edit. */\n"
_PLAIN = {"integer": "number", "number": "number", "string": "string", "boolean": "boolean"}


def types_of(schemas: Mapping[str, Schema]) -> str:
    """Return one module with the types of all documents and of what they are made of.

    Args:
        schemas: By the name of its type, each document.
    """
    types: dict[str, str] = {}
    for name, schema in schemas.items():
        root = {**schema, "description": schema["title"]}
        for each, definition in {**schema["$defs"], name: root}.items():
            text = _declaration(each, definition)
            if types.setdefault(each, text) != text:
                raise ValueError(f"two documents have different definitions of {each}")
    return _HEAD + "".join(f"\n{types[name]}" for name in sorted(types))


def _declaration(name: str, schema: Schema) -> str:
    about = _comment(schema, "")
    if "properties" in schema and "oneOf" not in schema:
        return f"{about}export interface {name} {_members(schema, '')}\n"
    return f"{about}export type {name} = {_type({**schema, 'description': None}, '')};\n"


def _members(schema: Schema, indent: str) -> str:
    inner = indent + "  "
    needed = set(schema.get("required", ()))
    lines = [
        f"{_comment(each, inner)}{inner}{_key(key)}{'' if key in needed else '?'}: "
        f"{_type(each, inner)};\n"
        for key, each in schema["properties"].items()
    ]
    return "{\n" + "".join(lines) + indent + "}"


def _type(schema: Schema, indent: str) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[1]
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(each) for each in schema["enum"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " | ".join(dict.fromkeys(_type(each, indent) for each in schema[key]))
    match schema.get("type"):
        case "array":
            items = _type(schema.get("items", {}), indent)
            return f"({items})[]" if " " in items else f"{items}[]"
        case "object" if "properties" in schema:
            return _members(schema, indent)
        case "object":
            values = schema.get("additionalProperties")
            return f"Record<string, {_type(values, indent) if values else 'unknown'}>"
        case "null":
            return "null"
        case kind:
            return _PLAIN.get(str(kind), "unknown")


def _comment(schema: Schema, indent: str) -> str:
    said = schema.get("description")
    return f"{indent}/** {said} */\n" if said else ""


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_]\w*", name) else json.dumps(name)
