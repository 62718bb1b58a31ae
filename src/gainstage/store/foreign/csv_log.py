"""Rows of a CSV file whose first line names the columns; comma, semicolon or tab."""

from __future__ import annotations

import csv
from pathlib import Path

from gainstage.errors import ConfigError
from gainstage.store.foreign.rows import Rows, numbers


def read_csv(path: Path) -> Rows:
    """Return the rows of a CSV file. An empty cell is a value that was not logged.

    Raises:
        ConfigError: If it is no text, or its first line names no columns.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no CSV file: {error.reason} at byte {error.start}") from error
    head = text.split("\n", 1)[0]
    separator = max(",;\t", key=head.count)
    try:
        reader = csv.DictReader(text.splitlines(), delimiter=separator)
        names = reader.fieldnames or []
        if not any(name.strip() for name in names):
            raise ConfigError(f"{path} is empty: its first line should name the columns")
        return [
            numbers({name.strip(): value for name, value in row.items() if isinstance(name, str)})
            for row in reader
        ]
    except csv.Error as error:
        raise ConfigError(f"{path} is no CSV file: {error}") from error
