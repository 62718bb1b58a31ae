"""JSON Schemas (draft 2020-12) of what gainstage writes and prints, as shipped with the package."""

from __future__ import annotations

from pathlib import Path

from gainstage.errors import ConfigError

_FOLDER = Path(__file__).parents[1] / "schemas"


def schema_names() -> tuple[str, ...]:
    """Return the names of all schemas, such as `findings`."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))


def schema_text(name: str) -> str:
    """Return a schema as JSON.

    Raises:
        ConfigError: If there is none of that name.
    """
    names = schema_names()
    if name not in names:
        raise ConfigError(f"no schema {name!r}; there are {', '.join(names)}")
    return (_FOLDER / f"{name}.json").read_text(encoding="utf-8")
