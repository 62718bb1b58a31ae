"""The first wrong operation of a step, and the place in the user's code where it stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Phase = Literal["input", "forward", "loss", "backward", "optimizer"]
FaultKind = Literal[
    "domain",  # an operation left its domain: log of 0, 0/0
    "overflow",  # finite inputs, a result beyond the dtype's largest value
    "singular-derivative",  # a finite result whose derivative is not: sqrt at 0
    "input",  # the batch itself is not finite
    "target",
    "constant",  # an operand that autograd does not track
    "parameter",  # a weight was not finite before the step began
    "update",  # gradients finite, what the optimizer wrote is not
    "unknown",
]


@dataclass(frozen=True, slots=True)
class Site:
    """One place in the user's code that makes graph nodes."""

    op: str
    """torch's function name, such as `log`."""
    module: str | None = None
    """As in `named_modules()`; None outside of any module's call."""
    function: str | None = None
    """The user's function that holds the line."""
    file: str | None = None
    """Absolute path of the user's file."""
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """The first wrong operation of a step, as the autopsy found it."""

    step: int
    kind: FaultKind
    phase: Phase
    site: Site
    message: str
    """One sentence with the values in it."""
    parameter: str | None = None
    time_step: int | None = None
    samples: tuple[int, ...] | None = None
    """Positions in the batch."""
    chain: tuple[Site, ...] = ()
    """From the culprit to the loss, or to the parameters."""
    evidence: dict[str, Any] = field(default_factory=dict[str, Any])
