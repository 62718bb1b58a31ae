"""What the trials of a script's treatments have shown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gainstage.facts.diagnosis import Setting
from gainstage.facts.findings import Verdict
from gainstage.facts.ranges import Count, Seconds

TrialOutcome = Literal[
    "waiting",
    "running",
    "finished",  # to the script's own end
    "dead",  # its losses stayed non-finite
    "behind",  # worse than half of the others at equal steps
    "crashed",  # the script ended with an error
    "timeout",
    "lost",  # the machine that ran it went away
    "stopped",  # by the user
]


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of the unmodified script, treated or as it is (the baseline): what came of it."""

    name: str
    """Of its folder."""
    treat: tuple[str, ...] = ()
    """As `run --treat` takes them; empty for the baseline."""
    why: str = ""
    outcome: TrialOutcome = "waiting"
    steps: Count = 0
    """Steps in its record."""
    loss: float = math.nan
    """Median of the last recorded losses; NaN where there is none."""
    final_loss: float | None = None
    """What the script printed as `final_loss=`; None where it prints none."""
    seconds: Seconds = 0.0
    exit: int | None = None
    note: str = ""

    @property
    def reported_loss(self) -> float:
        """Return the loss to report: the script's own word, else the record's."""
        return self.loss if self.final_loss is None else self.final_loss


@dataclass(frozen=True, slots=True, kw_only=True)
class UntreatedTrial(Trial):
    """The script as it is: what the trials are compared with."""

    verdict: Verdict
    cause: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BestTrial:
    """The winner of the trials."""

    remedy: str
    """The id of the treatment; those of several together are joined by `+`."""
    settings: Mapping[str, Setting | Mapping[str, Setting]]
    """Those given; by the id of the treatment where there are several."""
    final_loss: float
    """What the script printed, else the recorded level."""
    why: str
    treat: tuple[str, ...]
    """All of it, as `run --treat` takes it."""
    trial: str
    """Its name."""
    confirmed: bool | None
    """Whether it won again; None where that was not tried."""
    confirmed_by: Literal["second seed", "repeat"] | None


@dataclass(frozen=True, slots=True)
class Prescription:
    """What the trials of a script's treatments have shown."""

    folder: str
    """Where the records of all trials are."""
    baseline: UntreatedTrial
    trials: tuple[Trial, ...]
    best: BestTrial | None
    """The winner; None where nothing helped."""
    said: str
    """The outcome in one sentence."""
    diff: str | None = None
    """The winner as a unified diff of the user's source."""
    diff_final_loss: float | None = None
    """At which the script ended with that diff; None where it was not run."""
    instruction: str | None = None
    """What to do by hand, where there is no safe edit of the winner."""
    code_change: str | None = None
    """What to change in code or data to take the cause away, which no treatment can."""
    is_interrupted: bool = False
