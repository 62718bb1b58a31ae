"""`headroom-low`: what an operation put out is close to its dtype's largest value.

Only what was put out in the forward pass counts: a loss scaler drives gradients up to the limit on
purpose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gainstage.bits import LARGEST
from gainstage.detect.kind.symptom_kind import Detector, DocRow, Signal, Signals, SymptomKind
from gainstage.facts.blocks import ProfileBlock

LOW_BITS = {"float16": 2.0, "bfloat16": 16.0, "float32": 16.0}
"""float16 has 16 bits in all, and a healthy activation may use most of them."""

_APART_BITS = 0.002
"""float32's and bfloat16's largest values are 0.0056 bits apart."""
_MASK_BITS = 0.001
"""What is at the very limit was put there: a mask of the dtype's smallest value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadroomLowEvidence:
    """The output of a sampled graph that is closest to its dtype's largest value."""

    headroom_bits: float
    dtype: str
    """torch's name without the prefix."""
    site: int
    """Index into the sites; -1 where the operation matches none."""
    at_step: int


def message(evidence: HeadroomLowEvidence) -> str:
    """Return the sentence for people."""
    return (
        f"an output has {evidence.headroom_bits:.1f} bits left before {evidence.dtype} overflows "
        f"at step {evidence.at_step}"
    )


def site(evidence: HeadroomLowEvidence) -> int | None:
    """Return the number of the operation that put it out."""
    return evidence.site


@dataclass(frozen=True, slots=True)
class Headroom:
    """State: the smallest headroom reported so far."""

    reported_bits: float = math.inf


def update(state: Headroom, block: ProfileBlock) -> tuple[Headroom, Signals]:
    """Return a signal if an output of a sampled graph has less headroom left than was reported."""
    lowest: tuple[float, str, int] | None = None
    for dtype, low in LOW_BITS.items():
        rows = outputs_below(block, dtype, low)
        if rows.any():
            at = int(np.flatnonzero(rows)[np.argmin(block.headroom_bits[rows])])
            left = float(block.headroom_bits[at])
            if lowest is None or left < lowest[0]:
                lowest = (left, dtype, at)
    if lowest is None or lowest[0] > state.reported_bits - 1.0:
        return state, ()
    left, dtype, at = lowest
    step = int(block.step[at])
    evidence = HeadroomLowEvidence(
        headroom_bits=left, dtype=dtype, site=int(block.site[at]), at_step=step
    )
    signal = Signal(evidence=evidence, severity="warning", step=step, last_step=step)
    return Headroom(left), (signal,)


def outputs_below(block: ProfileBlock, dtype: str, bits: float) -> NDArray[np.bool_]:
    """Return which rows are of a dtype and have outputs with less than so many bits of headroom."""
    rows = (block.headroom_bits < bits) & np.isfinite(block.headroom_bits)
    rows &= np.isfinite(block.forward_max_bits)
    # The headroom is the smaller of output and gradient: where it is the output's, it adds up.
    rows &= block.headroom_bits > _MASK_BITS
    both = np.where(rows, block.forward_max_bits, 0) + np.where(rows, block.headroom_bits, 0)
    return rows & (np.abs(both - math.log2(LARGEST[dtype])) < _APART_BITS)


KIND = SymptomKind(
    id="headroom-low",
    evidence=(HeadroomLowEvidence,),
    detectors=(Detector(family="level", start=Headroom, profiles=update),),
    message=message,
    site=site,
    docs=(
        DocRow(
            "bits from an operation's largest output to its dtype's largest value: below 2 of "
            "float16's, below 16 of others'",
            "sampled graphs",
            "bits",
            "warning",
            "a loss scaler's gradients; masks of the dtype's smallest value",
        ),
    ),
)
