"""Evidence from the autopsy: the first wrong operation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gainstage.diagnose.from_profiles import time_evidence
from gainstage.diagnose.from_steps import fell_below_zero
from gainstage.facts.fault import Fault, FaultEvidence
from gainstage.facts.record import RankRecord

_EXPONENTIAL = ("exponential", "power")
_HALF = ("float16", "bfloat16")
_MODERATE = 1e6
"""A larger input is itself what has gone wrong; an exponential overflows float32 from 88 on."""


def fault_evidence(record: RankRecord) -> Iterator[tuple[str, str]]:
    """Yield rows of the evidence table, with words, from the first fault."""
    fault = record.fault
    if fault is None:
        return
    what, where, known = fault.text, place_of(fault), fault.evidence
    match fault.kind:
        case "domain":
            yield _of_domain(fault), f"{what}{_divisor_words(fault)}{where}"
            if known.is_hidden:
                yield "hidden-nonfinite", "the value is hidden from the loss, not from its gradient"
        case "singular-derivative":
            name = "in-normalization" if _is_normalization(known) else "singular-derivative"
            yield name, f"{what}{where}"
        case "overflow":
            yield from _overflow_evidence(fault, record)
        case "input" | "target":
            yield "bad-input", f"{what}{where}"
            yield from _input_evidence(known)
        case "constant":
            yield "bad-constant", f"{what}{where}"
        case "update":
            divides = known.second_moment is not None
            yield ("update-divides-by-zero" if divides else "update-nonfinite"), what
        case "unknown" if fault.phase == "backward":
            yield "of-a-finite-loss", what
        case "parameter" | "unknown":
            return


def _of_domain(fault: Fault) -> str:
    if _is_by_norm(fault):
        return "divided-by-norm"
    if fault.evidence.divisor is not None:
        return "divided-by-spread"
    return "in-normalization" if _is_normalization(fault.evidence) else "left-domain"


def _divisor_words(fault: Fault) -> str:
    if fault.evidence.divisor is None:
        return ""
    return f", the divisor being a {'norm' if _is_by_norm(fault) else 'spread'}"


def _is_by_norm(fault: Fault) -> bool:
    """Tell whether it makes unit vectors behind the last layer; in the network it is a layer."""
    return fault.phase == "loss" and fault.evidence.divisor == "norm"


def _is_normalization(known: FaultEvidence) -> bool:
    return known.normalizes or known.dispersion == "deviation"


def _overflow_evidence(fault: Fault, record: RankRecord) -> Iterator[tuple[str, str]]:
    what, where, op, known = fault.text, place_of(fault), fault.site.op, fault.evidence
    if known.dtype in _HALF:
        yield "half-overflow", f"{what}{where}"
        return
    yield "overflow", f"{what}{where}"
    if known.brought_in:
        yield (
            "huge-data",
            "what overflows came in with the data: the network's own values, which they were put "
            f"together with, are 2^20 times smaller{where}",
        )
    if _is_in_recurrence(fault, record):
        yield (
            "overflow-in-recurrence",
            "what overflows is the state that a recurrence carries from one time step to the "
            f"next{where}",
        )
    largest = max((known.largest_input or {}).values(), default=0.0)
    if known.hazard in _EXPONENTIAL and largest < _MODERATE:
        yield "exp-overflow", f"{op} overflows for moderate inputs{where}"
    losses = record.block.loss[np.isfinite(record.block.loss)]
    if fault.phase == "loss" and fell_below_zero(losses):
        yield (
            "density-without-bound",
            f"{op} in the loss overflows, of a loss that fell below zero: a variance that may "
            f"vanish{where}",
        )


def _is_in_recurrence(fault: Fault, record: RankRecord) -> bool:
    """Tell whether the line makes the states of a recurrence in which no growth was sampled.

    Where growth was, it says the same already.
    """
    if any(name.startswith("time-grows") for name, _ in time_evidence(record)):
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


def _input_evidence(known: FaultEvidence) -> Iterator[tuple[str, str]]:
    """A missing value spoils an element; a spread of 0, divided by, all that it is a spread of."""
    match known.fills:
        case "elements":
            yield "bad-elements", "single elements are not finite, their neighbours are"
        case "features":
            yield "bad-features", "whole features are not finite: dividing by their spread does it"
        case "samples" | "whole":
            yield (
                "bad-samples",
                "whole samples are not finite: missing, or divided by a spread of 0",
            )
        case None:
            pass
    if known.state is not None:
        dtype = known.state_dtype
        what = (
            f"`{known.state}`, a buffer in {dtype}, is not finite: what the script writes into it"
        )
        if dtype in _HALF:
            yield "half-state-overflows", f"{what} passes {dtype}'s range"
        else:
            yield "state-is-not-finite", f"{what} is to blame, not the data"
    if known.raw:
        yield "raw-data-is-finite", f"`{known.raw}`, as large, is finite as the step is taken"
