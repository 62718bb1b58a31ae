"""Rows of JSON logs: one object a line, or the `log_history` of Transformers' trainer state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from gainstage.errors import ConfigError
from gainstage.store.foreign.rows import Rows, numbers


def read_jsonl(path: Path) -> Rows:
    """Return the rows of a file with one JSON object a line; a torn last line is left out.

    Raises:
        ConfigError: If another line is no JSON object.
    """
    lines = _text(path).splitlines()
    rows: Rows = []
    for place, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            parsed: object = json.loads(line)
        except (ValueError, RecursionError) as error:
            if place == len(lines) and rows:
                break  # its writer was killed
            raise ConfigError(f"{path}:{place} is no JSON: {error}") from error
        if not isinstance(parsed, dict):
            raise ConfigError(f"{path}:{place} is no JSON object")
        rows.append(numbers(cast("dict[Any, Any]", parsed)))
    return rows


def read_trainer_state(path: Path) -> Rows:
    """Return the rows of `trainer_state.json`, as Transformers' Trainer saves it.

    Raises:
        ConfigError: If it is no JSON, or has no list `log_history`.
    """
    try:
        parsed: Any = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no JSON: {error}") from error
    history = cast("dict[str, Any]", parsed).get("log_history") if _is_dict(parsed) else None
    if not isinstance(history, list):
        raise ConfigError(f"{path} has no list 'log_history', as trainer_state.json has")
    return [numbers(row) for row in cast("list[Any]", history) if _is_dict(row)]


def _is_dict(value: object) -> bool:
    return isinstance(value, dict)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no text: {error.reason} at byte {error.start}") from error
