"""What the scan has to know of a symptom: how it is looked for, judged, put into words, documented.

A kind is a value in the symptom's own file. It holds pure functions; what a detector remembers is a
state that its update is given and gives back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from gainstage.detect.kind.inputs import BlockInput, Chunk, StepInput, Stretch, WeightSample
from gainstage.facts.blocks import ProfileBlock, TimeBlock
from gainstage.facts.fault import Fault
from gainstage.facts.observation import Observation, Observed
from gainstage.facts.symptom import Severity

Family = Literal["gradient", "loss", "weight", "depth", "time", "level"]
"""Signals of different families are independent evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """What a detector says of a run at a step, before the signals of all are weighed together."""

    evidence: object
    """Of one of the kind's classes."""
    severity: Severity
    step: int
    last_step: int
    count: int = 1
    """Steps at which it was seen since the last time."""
    is_strong: bool = False
    """Alone a warning; critical beside a strong signal of another family."""


Signals = Sequence[Signal]
Given = TypeVar("Given")
Update = Callable[[Any, Given], tuple[Any, Signals]]
"""Takes a state and an input, returns the next state and what was seen.

The state that was given is spent: its lists may live on in the one that is returned.
"""


def stateless() -> None:
    """Return the state of a detector that remembers nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """One way in which a symptom is looked for: a state, and what updates it.

    A detector that is fed single steps has a state for each set of tensors that have gradients
    together, that is for each of several optimizers; all others have one.
    """

    family: Family
    start: Callable[[], Any] = stateless
    """Makes the state before the first step."""
    rows: Update[BlockInput] | None = None
    """Each block as it arrives, all at once."""
    steps: Update[StepInput] | None = None
    """Each step, before its loss and norm join their series."""
    losses: Update[StepInput] | None = None
    """Each step with a finite loss, before its norm joins its series."""
    norms: Update[StepInput] | None = None
    """Each step with a finite gradient norm that is not 0."""
    chunks: Update[Chunk] | None = None
    """16 steps at a time, over all tensors, however the record arrives."""
    stretches: Update[Stretch] | None = None
    """The steps between two samples of the weights, or so many of them as have arrived."""
    weights: Update[WeightSample] | None = None
    profiles: Update[ProfileBlock] | None = None
    """The levels of each sampled graph."""
    times: Update[TimeBlock] | None = None
    """The recurrences of each sampled graph."""
    faults: Update[Fault] | None = None
    observations: Update[Observation[Observed]] | None = None

    @property
    def is_per_group(self) -> bool:
        """Whether each set of tensors that have gradients together has a state of its own."""
        return not (self.steps is None and self.losses is None and self.norms is None)


@dataclass(frozen=True, slots=True)
class DocRow:
    """A row of the table in docs/detectors.md."""

    statistic: str
    source: str
    units: str
    severity: str
    silent_on: str = "–"


def no_site(evidence: Any) -> int | None:
    """Return None: the evidence names no operation."""
    return None


def never_fails(evidence: Any) -> int | None:
    """Return None: a run does not fail by this alone."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class SymptomKind:
    """A symptom, as far as the scan and its readers have to know it."""

    id: str
    evidence: tuple[type, ...]
    """Classes of its evidence. Where there are several, each has a field `form` that tells them
    apart in JSON."""
    detectors: tuple[Detector, ...]
    message: Callable[[Any], str]
    """Makes one sentence of the evidence, for people."""
    docs: tuple[DocRow, ...]
    settles: frozenset[str] = frozenset()
    """Symptoms whose warnings since its step it explains as harmless: they become notes."""
    fails_if_last: Callable[[Any], int | None] = never_fails
    """Within how many steps of the end a critical one must be seen for the run to have failed;
    None where a run does not fail by it alone."""
    is_fatal: bool = False
    """Whether a run has failed by it, whenever it was critical."""
    site: Callable[[Any], int | None] = no_site
    """The number of the operation in the record's sites, where the evidence names one."""
