"""What the trials of a script's treatments have shown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from gainstage.facts.findings import Verdict

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
    steps: int = 0
    """Steps in its record."""
    loss: float = math.nan
    """Median of the last recorded losses; NaN where there is none."""
    final_loss: float | None = None
    """What the script printed as `final_loss=`; None where it prints none."""
    seconds: float = 0.0
    exit: int | None = None
    note: str = ""

    @property
    def reported_loss(self) -> float:
        """Return the loss to report: the script's own word, else the record's."""
        return self.loss if self.final_loss is None else self.final_loss

    def as_json(self) -> dict[str, Any]:
        """Return the trial as `gainstage prescribe --json` prints it."""
        return {
            "name": self.name,
            "treat": list(self.treat),
            "why": self.why,
            "outcome": self.outcome,
            "steps": self.steps,
            "loss": self.loss,
            "final_loss": self.final_loss,
            "seconds": round(self.seconds, 1),
            "exit": self.exit,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class Prescription:
    """What the trials of a script's treatments have shown."""

    folder: str
    """Where the records of all trials are."""
    baseline: Trial
    verdict: Verdict
    """Of the baseline."""
    cause: str | None
    trials: tuple[Trial, ...]
    best: dict[str, Any] | None
    """The winner as the contract writes it; None where nothing helped."""
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

    def as_json(self) -> dict[str, Any]:
        """Return the object that `gainstage prescribe --json` prints."""
        return {
            "baseline": {
                **self.baseline.as_json(),
                "verdict": self.verdict,
                "cause": self.cause,
            },
            "trials": [trial.as_json() for trial in self.trials],
            "best": self.best,
            "diff": self.diff,
            "diff_final_loss": self.diff_final_loss,
            "said": self.said,
            "instruction": self.instruction,
            "code_change": self.code_change,
            "folder": self.folder,
        }
