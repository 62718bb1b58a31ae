"""What treatments and guards did: the lines of treatments.jsonl."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gainstage.facts.diagnosis import Setting
from gainstage.facts.ranges import OMIT, Count, Index, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class TreatmentState:
    """A treatment began or ended with the run."""

    event: Literal["started", "ended"]
    rank: Index | None
    """The process."""
    treat: str
    """As `--treat` or `--guard` gives it."""
    remedy: str
    settings: Mapping[str, Setting | None] = field(default_factory=dict[str, "Setting | None"])
    """As `--treat` takes them, defaults included."""
    step: Step
    touched: Count
    """Steps that it has changed so far."""
    notes: tuple[str, ...] | None = field(default=None, metadata=OMIT)
    """What must be said, such as why it could not be done."""
    details: Mapping[str, Any] | None = field(default=None, metadata=OMIT)
    """What exactly was done; the keys are those of the kind of treatment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardAction:
    """A guard acted; the first 100 times of each kind are written."""

    event: Literal["skipped", "rolled back", "refused", "stopped"]
    rank: Index | None
    """The process."""
    treat: str
    """As `--guard` gives it."""
    remedy: str
    step: Step
    time: float
    """Seconds since the epoch."""
    message: str
    grad_norm: float | None = field(default=None, metadata=OMIT)
    """Norm of the gradients that were not used."""
    good_steps: Count | None = field(default=None, metadata=OMIT)
    """How many good steps the state was taken back by."""
    lr_factor: float | None = field(default=None, metadata=OMIT)
    """What learning rates are multiplied by from here on."""
    snapshots_bytes: Count | None = field(default=None, metadata=OMIT)
    """Memory that the copies of earlier states take."""


TreatmentEvent = TreatmentState | GuardAction
