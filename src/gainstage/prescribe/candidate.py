"""What a trial tries: one treatment, or a few together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gainstage.facts.diagnosis import Setting
from gainstage.treat.kinds import KINDS
from gainstage.treat.settings import Value
from gainstage.treat.spec import Spec, parse


@dataclass(frozen=True, slots=True)
class Candidate:
    """Treatments to try together, in the order in which they act, and why."""

    specs: tuple[Spec, ...]
    why: str

    @property
    def treat(self) -> tuple[str, ...]:
        """Return the treatments as `run --treat` takes them."""
        return tuple(spec.as_text() for spec in self.specs)

    @property
    def remedy(self) -> str:
        """Return the remedy's id; those of several are joined by `+`."""
        return "+".join(spec.remedy for spec in self.specs)

    @property
    def in_words(self) -> str:
        """Return the treatments for people: of a change of the code, the name of its file."""
        texts = [
            f"{spec.remedy} ({Path(str(spec.settings['source'])).name})"
            if spec.kind.changes_source
            else spec.as_text()
            for spec in self.specs
        ]
        return " and ".join(texts)

    def settings(self) -> Mapping[str, Setting | Mapping[str, Setting]]:
        """Return the settings given; by remedy where there are several."""
        if len(self.specs) == 1:
            return dict(self.specs[0].settings)
        return {spec.remedy: dict(spec.settings) for spec in self.specs}

    def complexity(self) -> tuple[int, int]:
        """Return what orders candidates from the simplest: how many treatments, and which."""
        simplest_first = list(KINDS)
        return len(self.specs), max(simplest_first.index(spec.remedy) for spec in self.specs)

    def is_like(self, other: Candidate) -> bool:
        """Tell whether another would give nearly the same run: numbers within a tenth."""
        return len(self.specs) == len(other.specs) and all(
            mine.remedy == its.remedy and _alike(mine.values(), its.values())
            for mine, its in zip(self.specs, other.specs, strict=True)
        )


def candidate(*texts: str, why: str) -> Candidate:
    """Return a candidate from treatments as `run --treat` takes them."""
    return Candidate(tuple(parse(text) for text in texts), why)


def _alike(mine: dict[str, Value], its: dict[str, Value]) -> bool:
    return mine.keys() == its.keys() and all(_close(mine[key], its[key]) for key in mine)


def _close(one: Value, other: Value) -> bool:
    if isinstance(one, str) or isinstance(other, str) or one == other:
        return one == other
    return abs(one - other) <= 0.1 * max(abs(one), abs(other))
