"""`gradient-nonfinite`: a gradient that reached the optimizer holds NaN or inf.

Steps that a loss scaler leaves out have no row and are no sign of anything. A step that a treatment
left out (`skipped` is -1) did no harm: a warning.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gainstage.detect.kind.inputs import BlockInput
from gainstage.detect.kind.symptom_kind import Detector, DocRow, Signal, Signals, SymptomKind

_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientNonfiniteEvidence:
    """The first step with such a gradient that was not left out, else the first."""

    tensors: tuple[str, ...]
    """Names of the first of them."""
    tensors_hurt: int
    tensors_seen: int
    has_nan: bool
    has_inf: bool
    is_left_out: bool
    """Whether every step with such a gradient was left out."""
    at_step: int


def message(evidence: GradientNonfiniteEvidence) -> str:
    """Return the sentence for people."""
    words = (("NaN", evidence.has_nan), ("inf", evidence.has_inf))
    kinds = " and ".join(word for word, is_there in words if is_there)
    name = evidence.tensors[0] if evidence.tensors else "a tensor"
    more = f" and {evidence.tensors_hurt - 1} more" if evidence.tensors_hurt > 1 else ""
    left_out = "; the step was left out" if evidence.is_left_out else ""
    return f"{kinds} in the gradient of {name}{more} at step {evidence.at_step}{left_out}"


def update(state: None, rows: BlockInput) -> tuple[None, Signals]:
    """Return the signal of a block, none where every gradient in it is finite."""
    block = rows.block
    hurt = block.present & ~np.isfinite(block.grad_norms)
    found = np.flatnonzero(hurt.any(axis=1))
    if not len(found):
        return state, ()
    harmful = found[block.skipped[found] >= 0]
    first = int(harmful[0] if len(harmful) else found[0])
    which = np.flatnonzero(hurt[first])
    values = block.grad_norms[first, which]
    step = int(block.step[first])
    evidence = GradientNonfiniteEvidence(
        tensors=tuple(rows.tensors[i].name for i in which[:_NAMED] if i < len(rows.tensors)),
        tensors_hurt=len(which),
        tensors_seen=hurt.shape[1],
        has_nan=bool(np.isnan(values).any()),
        has_inf=bool(np.isinf(values).any()),
        is_left_out=not len(harmful),
        at_step=step,
    )
    signal = Signal(
        evidence=evidence,
        severity="critical" if len(harmful) else "warning",
        step=step,
        last_step=int(block.step[found[-1]]),
        count=len(found),
    )
    return state, (signal,)


KIND = SymptomKind(
    id="gradient-nonfinite",
    evidence=(GradientNonfiniteEvidence,),
    detectors=(Detector(family="gradient", rows=update),),
    message=message,
    is_fatal=True,
    docs=(
        DocRow(
            "a gradient that reached the optimizer is not finite; which tensors",
            "gradient norms",
            "–",
            "critical; warning where a treatment left the step out",
            "steps that a loss scaler left out",
        ),
    ),
)
