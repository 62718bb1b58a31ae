"""Why a run went wrong: the cause, the evidence for it, where it sits, and what helps.

The names of the fields are the keys that `gainstage report --json` prints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gainstage.facts.fault import Phase
from gainstage.facts.ranges import Finite, Index, Share, Step

BY_HAND = ("code-change", "fix-data")
"""Remedies that say what a person is to do."""

Setting = float | int | str | bool
"""A value in the settings of a remedy."""
Number = float | int | str
"""A value that was measured, or the name of what it was measured on."""


@dataclass(frozen=True, slots=True)
class CauseSite:
    """Where a cause sits, as far as it is known."""

    phase: Phase | None = None
    module: str | None = None
    """As in `named_modules()`."""
    parameter: str | None = None
    """As in `named_parameters()`."""
    op: str | None = None
    """torch's function name, such as `log`."""
    file: str | None = None
    """Absolute path of the user's file."""
    line: int | None = None
    time_step: int | None = None
    samples: tuple[int, ...] | None = None
    """The first positions in the batch."""
    samples_in_all: int | None = None
    """How many positions of the batch there are."""
    rank: Index | None = None
    """The process, where several trained."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another cause that the evidence allows."""

    cause: str
    confidence: Share
    """Between 0 and 1."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """What helps against a cause: a treatment with its settings, or a change by hand."""

    remedy: str
    """The id of a treatment, or one of `BY_HAND`."""
    settings: Mapping[str, Setting] = field(default_factory=dict[str, Setting])
    why: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One observation on the record, and how much it speaks for the cause."""

    evidence: str
    """Its id."""
    bits: Finite
    """Log-odds that it adds to the cause; negative where it speaks against it."""
    text: str
    """In words, with the numbers that a person can check."""
    numbers: Mapping[str, Number] = field(default_factory=dict[str, Number])
    """What the words are made of, by name; empty in findings of earlier versions."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The most likely cause of what went wrong in a run."""

    cause: str
    confidence: Share
    """Between 0 and 1; those of all causes and of an unknown one add up to 1."""
    alternatives: tuple[Alternative, ...] = ()
    """The next causes, the most likely first."""
    first_alarm_step: Step | None = None
    failure_step: Step | None = None
    site: CauseSite = CauseSite()
    remedies: tuple[Remedy, ...] = ()
    """To be tried in this order."""
    evidence: tuple[Evidence, ...] = ()
    """What speaks most for the cause first."""
