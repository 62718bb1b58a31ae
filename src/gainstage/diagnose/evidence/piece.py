"""A piece of evidence: what was measured on a record, and the sentence for people made of it.

Each kind of evidence is a small frozen class beside the function that looks for it. Causes weigh it
by its `id`; the numbers in its fields go into findings with it.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, fields
from typing import Any, ClassVar, Protocol

from gainstage.facts.diagnosis import Number


class Piece(Protocol):
    """One observation on the record."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def id(self) -> str:
        """By which causes weigh it."""
        ...

    @property
    def text(self) -> str:
        """In words, with the numbers that a person can check."""
        ...


@dataclass(frozen=True, slots=True)
class Plain:
    """Evidence without numbers."""

    id: str
    text: str


def numbers_of(piece: Piece) -> dict[str, Number]:
    """Return the fields of a piece of evidence that are numbers or names."""
    values = ((each.name, getattr(piece, each.name)) for each in fields(piece))
    return {
        name: value
        for name, value in values
        if name not in ("id", "text") and isinstance(value, (int, float, str))
    }
