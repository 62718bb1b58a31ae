"""What a cause must provide."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gainstage.facts.diagnosis import CauseSite, Remedy
from gainstage.facts.record import RankRecord

_IN_TABLE = 3

CodeChangeId = Literal[
    "guard-operation",  # keep the faulty operation inside its domain
    "float32",  # where the script asks for half precision
    "zero-grad",  # after each step
    "clip-a-list",  # for an iterator that is used up
    "unscale-first",  # take out the loss scale before the clip
    "optimizer-settings",  # within their range
    "add-parameters",  # those that the optimizer lacks
    "take-out-writes",  # what writes into weights besides the optimizer
]
"""A change of the script's source that `prescribe` can write and try."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CauseKind:
    """A cause: its words, what speaks for and against it, where it sits and what helps."""

    id: str
    words: str
    """What went wrong, as the rest of a sentence: `the learning rate is too high`."""
    signature: str
    """What tells it from its neighbours, for the docs."""
    weighs: Mapping[str, float]
    """By id of the evidence, the bits of log-odds that it adds: log2 of how much more likely that
    evidence is under this cause than under the others. Evidence left out does not touch it."""
    prior_bits: float = 0.0
    """Log-odds before any evidence."""
    place: Callable[[RankRecord], CauseSite]
    """Where it sits in the run of a record."""
    remedies: Callable[[RankRecord], Sequence[Remedy]]
    """What helps, in the order in which to try it, with settings from the record."""
    is_lower_loss_better: bool = True
    """Whether of two runs with this fault the one with the lower loss is the better one."""
    code_changes: tuple[CodeChangeId, ...] = ()
    """What `prescribe` tries to change in the source, where the record allows it."""


def cause_table(kinds: Iterable[CauseKind]) -> str:
    """Return the causes as the table in docs/detectors.md."""
    rows = ["| cause | what went wrong | what tells it from its neighbours | strongest evidence |"]
    rows.append("|---|---|---|---|")
    for kind in kinds:
        strongest = sorted(kind.weighs, key=lambda name: -kind.weighs[name])[:_IN_TABLE]
        evidence = ", ".join(f"`{name}` {kind.weighs[name]:+g}" for name in strongest)
        rows.append(f"| `{kind.id}` | {kind.words} | {kind.signature} | {evidence} |")
    return "\n".join(rows) + "\n"
