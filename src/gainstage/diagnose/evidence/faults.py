"""Evidence from the autopsy: the first wrong operation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from gainstage.diagnose.evidence.piece import Piece, Plain
from gainstage.diagnose.evidence.profiles import time_evidence
from gainstage.diagnose.evidence.steps import fell_below_zero
from gainstage.facts.fault import Fault, FaultEvidence
from gainstage.facts.record import RankRecord

_EXPONENTIAL = ("exponential", "power")
_HALF = ("float16", "bfloat16")
_MODERATE = 1e6
"""A larger input is itself what has gone wrong; an exponential overflows float32 from 88 on."""
_HIDDEN = Plain("hidden-nonfinite", "the value is hidden from the loss, not from its gradient")
_BY_FILLS = {
    # A missing value spoils an element; a spread of 0, divided by, all that it is a spread of.
    "elements": Plain("bad-elements", "single elements are not finite, their neighbours are"),
    "features": Plain(
        "bad-features", "whole features are not finite: dividing by their spread does it"
    ),
    **dict.fromkeys(
        ("samples", "whole"),
        Plain("bad-samples", "whole samples are not finite: missing, or divided by a spread of 0"),
    ),
}


@dataclass(frozen=True, slots=True)
class WrongOperation:
    """The first wrong operation, by what is wrong with it."""

    id: str
    fault: Fault

    @property
    def text(self) -> str:
        """The sentence for people."""
        fault = self.fault
        if fault.kind in ("update", "unknown"):
            return fault.text
        divisor = ""
        if fault.kind == "domain" and fault.evidence.divisor is not None:
            divisor = f", the divisor being a {'norm' if _is_by_norm(fault) else 'spread'}"
        return f"{fault.text}{divisor}{place_of(fault)}"


@dataclass(frozen=True, slots=True)
class HugeData:
    """What overflows came in with the data."""

    id: str = field(default="huge-data", init=False)
    fault: Fault

    @property
    def text(self) -> str:
        """The sentence for people."""
        return (
            "what overflows came in with the data: the network's own values, which they were put "
            f"together with, are 2^20 times smaller{place_of(self.fault)}"
        )


@dataclass(frozen=True, slots=True)
class OverflowInRecurrence:
    """What overflows is the state of a recurrence."""

    id: str = field(default="overflow-in-recurrence", init=False)
    fault: Fault

    @property
    def text(self) -> str:
        """The sentence for people."""
        return (
            "what overflows is the state that a recurrence carries from one time step to the "
            f"next{place_of(self.fault)}"
        )


@dataclass(frozen=True, slots=True)
class ExponentialOverflow:
    """An exponential overflows for inputs that are not large."""

    id: str = field(default="exp-overflow", init=False)
    fault: Fault
    largest_input: float

    @property
    def text(self) -> str:
        """The sentence for people."""
        return f"{self.fault.site.op} overflows for moderate inputs{place_of(self.fault)}"


@dataclass(frozen=True, slots=True)
class VanishingVariance:
    """An operation in the loss overflows, of a loss that fell below zero."""

    id: str = field(default="density-without-bound", init=False)
    fault: Fault

    @property
    def text(self) -> str:
        """The sentence for people."""
        return (
            f"{self.fault.site.op} in the loss overflows, of a loss that fell below zero: a "
            f"variance that may vanish{place_of(self.fault)}"
        )


@dataclass(frozen=True, slots=True)
class BadState:
    """A buffer of the network is not finite."""

    id: str
    """Another one where float16 or bfloat16 cannot hold what is written into it."""
    state: str
    dtype: str | None

    @property
    def text(self) -> str:
        """The sentence for people."""
        what = f"`{self.state}`, a buffer in {self.dtype}, is not finite: what the script writes"
        if self.id == "half-state-overflows":
            return f"{what} into it passes {self.dtype}'s range"
        return f"{what} into it is to blame, not the data"


@dataclass(frozen=True, slots=True)
class RawDataFinite:
    """A variable of the script holds finite data of the same size."""

    id: str = field(default="raw-data-is-finite", init=False)
    variable: str

    @property
    def text(self) -> str:
        """The sentence for people."""
        return f"`{self.variable}`, as large, is finite as the step is taken"


def fault_evidence(record: RankRecord) -> Iterator[Piece]:
    """Yield evidence from the first fault."""
    fault = record.fault
    if fault is None:
        return
    known = fault.evidence
    match fault.kind:
        case "domain":
            yield WrongOperation(_of_domain(fault), fault)
            if known.is_hidden:
                yield _HIDDEN
        case "singular-derivative":
            name = "in-normalization" if _is_normalization(known) else "singular-derivative"
            yield WrongOperation(name, fault)
        case "overflow":
            yield from _overflow_evidence(fault, record)
        case "input" | "target":
            yield WrongOperation("bad-input", fault)
            yield from _input_evidence(known)
        case "constant":
            yield WrongOperation("bad-constant", fault)
        case "update":
            divides = known.second_moment is not None
            yield WrongOperation("update-divides-by-zero" if divides else "update-nonfinite", fault)
        case "unknown" if fault.phase == "backward":
            yield WrongOperation("of-a-finite-loss", fault)
        case "parameter" | "unknown":
            return


def _of_domain(fault: Fault) -> str:
    if _is_by_norm(fault):
        return "divided-by-norm"
    if fault.evidence.divisor is not None:
        return "divided-by-spread"
    return "in-normalization" if _is_normalization(fault.evidence) else "left-domain"


def _is_by_norm(fault: Fault) -> bool:
    """Return whether it makes unit vectors behind the last layer; in the network it is a layer."""
    return fault.phase == "loss" and fault.evidence.divisor == "norm"


def _is_normalization(known: FaultEvidence) -> bool:
    return known.normalizes or known.dispersion == "deviation"


def _overflow_evidence(fault: Fault, record: RankRecord) -> Iterator[Piece]:
    known = fault.evidence
    if known.dtype in _HALF:
        yield WrongOperation("half-overflow", fault)
        return
    yield WrongOperation("overflow", fault)
    if known.brought_in:
        yield HugeData(fault)
    if _is_in_recurrence(fault, record):
        yield OverflowInRecurrence(fault)
    largest = max((known.largest_input or {}).values(), default=0.0)
    if known.hazard in _EXPONENTIAL and largest < _MODERATE:
        yield ExponentialOverflow(fault, largest)
    losses = record.block.loss[np.isfinite(record.block.loss)]
    if fault.phase == "loss" and fell_below_zero(losses):
        yield VanishingVariance(fault)


def _is_in_recurrence(fault: Fault, record: RankRecord) -> bool:
    """Return whether the line makes the states of a recurrence in which no growth was sampled.

    Where growth was, it says the same already.
    """
    if any(piece.id.startswith("time-grows") for piece in time_evidence(record)):
        return False
    times = record.times
    numbers = np.unique(times.site[(times.depth == 0) & (times.site >= 0)]).tolist()
    makers = (record.sites[number] for number in numbers if number < len(record.sites))
    mine = (fault.site.file, fault.site.line)
    return fault.site.line is not None and any((each.file, each.line) == mine for each in makers)


def place_of(fault: Fault) -> str:
    """Return where a fault is, to stand behind what it is."""
    site = fault.site
    inside = f" in {site.module}" if site.module else ""
    return f"{inside}, line {site.line}" if site.line is not None else inside


def _input_evidence(known: FaultEvidence) -> Iterator[Piece]:
    if known.fills is not None:
        yield _BY_FILLS[known.fills]
    if known.state is not None:
        is_half = known.state_dtype in _HALF
        name = "half-state-overflows" if is_half else "state-is-not-finite"
        yield BadState(name, known.state, known.state_dtype)
    if known.raw:
        yield RawDataFinite(known.raw)
