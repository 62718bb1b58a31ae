"""S1 `loss-nonfinite`: the loss is NaN or infinite."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gainstage.detect.kind.inputs import BlockInput
from gainstage.detect.kind.symptom_kind import Detector, DocRow, Signal, Signals, SymptomKind
from gainstage.facts.fault import Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class LossNonfiniteEvidence:
    """The first loss that is not finite."""

    value: float
    is_without_backward: bool = False
    """Whether no backward call was made on it, so that no row holds it."""
    at_step: int


def message(evidence: LossNonfiniteEvidence) -> str:
    """Return the sentence for people."""
    stopped = ", and no backward call was made on it" if evidence.is_without_backward else ""
    return f"the loss became {evidence.value} at step {evidence.at_step}{stopped}"


def update(state: None, rows: BlockInput) -> tuple[None, Signals]:
    """Return the signal of a block, none where every loss in it is finite."""
    block = rows.block
    found = np.flatnonzero(block.has_loss & ~np.isfinite(block.loss))
    if not len(found):
        return state, ()
    step = int(block.step[found[0]])
    signal = Signal(
        evidence=LossNonfiniteEvidence(value=float(block.loss[found[0]]), at_step=step),
        severity="critical",
        step=step,
        last_step=int(block.step[found[-1]]),
        count=len(found),
    )
    return state, (signal,)


def update_by_fault(state: None, fault: Fault) -> tuple[None, Signals]:
    """Return the signal of a loss that no row holds, for the script stopped at it."""
    if not fault.evidence.no_backward:
        return state, ()
    evidence = LossNonfiniteEvidence(
        value=float(fault.evidence.value or "nan"),
        is_without_backward=True,
        at_step=fault.step,
    )
    signal = Signal(evidence=evidence, severity="critical", step=fault.step, last_step=fault.step)
    return state, (signal,)


KIND = SymptomKind(
    id="loss-nonfinite",
    evidence=(LossNonfiniteEvidence,),
    detectors=(Detector(family="loss", rows=update, faults=update_by_fault),),
    message=message,
    is_fatal=True,
    docs=(DocRow("the loss is NaN or ±inf", "loss", "–", "critical"),),
)
