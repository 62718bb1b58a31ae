"""Something that the script does, seen once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

ObservationKind = Literal[
    "optimizer",  # made: class and settings
    "optimizer-step",  # first step: where
    "clip",  # first clipping call: where, limit, how many of the parameters
    "clip-after-step",  # a clipping call between a step and the next backward call
    "clip-scaled",  # a clipping call on gradients that still hold the loss scale
    "clip-partial",  # clipping calls that leave out gradients which the optimizer steps with
    "clip-nothing",  # a clipping call before a step that was given nothing with a gradient
    "clip-duplicates",  # a clipping call that was given a parameter more than once
    "batch-norm",  # statistics of a batch norm that come from few values: how many
    "log-near-zero",  # the smallest argument of a logarithm, each time it is half a bit smaller
    "loss",  # what backward is called on: operation, reduction, elements
    "accumulation",  # several backward calls for one step: how many, and whether divided
    "gradient-not-zeroed",  # gradients of an earlier step are still there as backward begins
    "backward",  # first backward call: where
    "parameters-unheld",  # get gradients, made after the optimizer and in none: how many, which
]


@dataclass(frozen=True, slots=True)
class Observation:
    """Something that the script does: not a symptom, but evidence for one or for a cause."""

    kind: ObservationKind
    step: int
    """The optimizer step to come when it was seen."""
    file: str | None = None
    line: int | None = None
    evidence: dict[str, Any] = field(default_factory=dict[str, Any])
