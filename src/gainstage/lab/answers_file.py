"""A reader's answers from a TOML file, for `gainstage lab exercises --check`."""

from __future__ import annotations

import tomllib
from pathlib import Path

from gainstage.errors import ConfigError
from gainstage.lab.questions import Answer


def read_answers(path: Path) -> dict[str, Answer]:
    """Return answers by key: `[exercise1]` and `w3 = 81` is `exercise1.w3`.

    Raises:
        ConfigError: If the file cannot be read, is no TOML, or holds what is no answer.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{str(path)!r} is not TOML: {error}") from error
    answers: dict[str, Answer] = {}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{str(path)!r}: {name} must stand in a table such as [exercise1]")
        for key, value in table.items():
            answers[f"{name}.{key}"] = _answer(f"{name}.{key}", value)
    return answers


def _answer(key: str, value: object) -> Answer:
    if isinstance(value, str):
        return value
    values = value if isinstance(value, list) else [value]
    numbers: list[float] = []
    for each in values:
        if isinstance(each, bool) or not isinstance(each, int | float):
            raise ConfigError(f"{key} must be a number, a list of numbers or a word, got {value!r}")
        numbers.append(float(each))
    return tuple(numbers)
