"""Evidence from the autopsy: the first wrong operation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np

from gainstage.diagnose.from_profiles import time_evidence
from gainstage.diagnose.from_steps import fell_below_zero
from gainstage.facts.fault import Fault
from gainstage.facts.record import RankRecord

_NORMALIZATIONS = {
    "batch_norm",
    "layer_norm",
    "group_norm",
    "instance_norm",
    "rms_norm",
    "native_batch_norm",
    "native_layer_norm",
    "var",
    "std",
}
_EXPONENTIALS = {"exp", "expm1", "exp2", "sinh", "cosh", "pow", "softplus"}
_NORMS = {"linalg_vector_norm", "norm"}
_HALF = ("float16", "bfloat16")
_MODERATE = 1e6
"""A larger input is itself what has gone wrong; an exponential overflows float32 from 88 on."""


def fault_evidence(record: RankRecord) -> Iterator[tuple[str, str]]:
    """Yield rows of the evidence table, with words, from the first fault."""
    fault = record.fault
    if fault is None:
        return
    where = place_of(fault)
    match fault.kind:
        case "domain":
            if fault.phase == "loss" and _is_by_norm(fault):
                # Behind the last layer it makes unit vectors; within the network it is a layer.
                yield "divided-by-norm", f"{fault.message}, the divisor being a norm{where}"
            elif fault.evidence.get("by_spread"):
                yield "divided-by-spread", f"{fault.message}, the divisor being a spread{where}"
            elif fault.site.op in _NORMALIZATIONS:
                yield "in-normalization", f"{fault.message}{where}"
            else:
                yield "left-domain", f"{fault.message}{where}"
            if "hidden" in fault.message:
                yield "hidden-nonfinite", "the value is hidden from the loss, not from its gradient"
        case "singular-derivative":
            name = "in-normalization" if fault.site.op in _NORMALIZATIONS else "singular-derivative"
            yield name, f"{fault.message}{where}"
        case "overflow":
            half = next((name for name in _HALF if name in fault.message), None)
            if half is not None:
                yield "half-overflow", f"{fault.message}{where}"
            else:
                yield "overflow", f"{fault.message}{where}"
                if fault.evidence.get("brought_in"):
                    yield (
                        "huge-data",
                        "what overflows came in with the data: the network's own values, which "
                        f"they were put together with, are 2^20 times smaller{where}",
                    )
                if _is_in_recurrence(fault, record):
                    yield (
                        "overflow-in-recurrence",
                        "what overflows is the state that a recurrence carries from one time step "
                        f"to the next{where}",
                    )
                if fault.site.op in _EXPONENTIALS and _largest_input(fault) < _MODERATE:
                    yield "exp-overflow", f"{fault.site.op} overflows for moderate inputs{where}"
                losses = record.block.loss[np.isfinite(record.block.loss)]
                if fault.phase == "loss" and fell_below_zero(losses):
                    yield (
                        "density-without-bound",
                        f"{fault.site.op} in the loss overflows, of a loss that fell below zero: a "
                        f"variance that may vanish{where}",
                    )
        case "input" | "target":
            yield "bad-input", f"{fault.message}{where}"
            yield from _input_evidence(fault)
        case "constant":
            yield "bad-constant", f"{fault.message}{where}"
        case "update":
            divides = fault.site.op == "addcdiv" and "0/0" in fault.message
            yield ("update-divides-by-zero" if divides else "update-nonfinite"), fault.message
        case "unknown" if fault.phase == "backward":
            yield "of-a-finite-loss", fault.message
        case "parameter" | "unknown":
            return


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


def _input_evidence(fault: Fault) -> Iterator[tuple[str, str]]:
    """A missing value spoils an element; a spread of 0, divided by, all that it is a spread of."""
    match fault.evidence.get("fills"):
        case "elements":
            yield "bad-elements", "single elements are not finite, their neighbours are"
        case "features":
            yield "bad-features", "whole features are not finite: dividing by their spread does it"
        case "samples" | "whole":
            yield (
                "bad-samples",
                "whole samples are not finite: missing, or divided by a spread of 0",
            )
        case _:
            pass
    state, dtype = fault.evidence.get("state"), fault.evidence.get("state_dtype")
    if state:
        what = f"`{state}`, a buffer in {dtype}, is not finite: what the script writes into it"
        if dtype in _HALF:
            yield "half-state-overflows", f"{what} passes {dtype}'s range"
        else:
            yield "state-is-not-finite", f"{what} is to blame, not the data"
    raw = fault.evidence.get("raw")
    if raw:
        yield "raw-data-is-finite", f"`{raw}`, as large, is finite as the step is taken"


def _largest_input(fault: Fault) -> float:
    inputs: object = fault.evidence.get("largest_input")
    known = cast("dict[str, float]", inputs).values() if isinstance(inputs, dict) else ()
    return max(known, default=0.0)


def _is_by_norm(fault: Fault) -> bool:
    makers: object = fault.evidence.get("operands")
    known = cast("dict[str, str]", makers).values() if isinstance(makers, dict) else ()
    return bool(fault.evidence.get("by_spread")) and not _NORMS.isdisjoint(known)
