"""`update-nonfinite`: gradients were finite, yet what the optimizer wrote is not.

Seen by the autopsy of the step after, whose forward pass meets the weight.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gainstage.detect.kind.symptom_kind import Detector, DocRow, Signal, Signals, SymptomKind
from gainstage.facts.fault import Fault
from gainstage.facts.ranges import OMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateNonfiniteEvidence:
    """The weight that the update made NaN or inf, and why."""

    parameter: str | None
    """As in `named_parameters()`; None where its name is not known."""
    op: str
    """The operation of the update."""
    elements: int | None = field(default=None, metadata=OMIT)
    """Elements of the weight that are not finite."""
    numel: int | None = field(default=None, metadata=OMIT)
    """Elements of the weight."""
    zero_state: str | None = field(default=None, metadata=OMIT)
    """The optimizer's running square that the update divided by although it is 0."""
    zero_elements: int | None = field(default=None, metadata=OMIT)
    """Elements in which it is 0."""
    at_step: int


def message(evidence: UpdateNonfiniteEvidence) -> str:
    """Return the sentence for people."""
    name = evidence.parameter or "a weight"
    share = ""
    if evidence.elements is not None:
        share = f"{evidence.elements} of {evidence.numel} elements of "
    why = ""
    if evidence.zero_state is not None:
        why = (
            f": 0/0, for {evidence.zero_state} is 0 in {evidence.zero_elements} of them and eps "
            "adds nothing"
        )
    return f"the update made {share}{name} NaN or inf{why} at step {evidence.at_step}"


def update(state: None, fault: Fault) -> tuple[None, Signals]:
    """Return the signal of a fault, none where it is of another kind."""
    if fault.kind != "update":
        return state, ()
    measured, share = fault.evidence, fault.evidence.share
    evidence = UpdateNonfiniteEvidence(
        parameter=fault.parameter,
        op=fault.site.op,
        elements=None if share is None else share.count,
        numel=None if share is None else share.elements,
        zero_state=measured.second_moment,
        zero_elements=measured.zero_second_moments,
        at_step=fault.step,
    )
    signal = Signal(evidence=evidence, severity="critical", step=fault.step, last_step=fault.step)
    return state, (signal,)


KIND = SymptomKind(
    id="update-nonfinite",
    evidence=(UpdateNonfiniteEvidence,),
    detectors=(Detector(family="weight", faults=update),),
    message=message,
    is_fatal=True,
    docs=(
        DocRow(
            "gradients were finite, yet what the optimizer wrote is not",
            "autopsy of the step after",
            "elements",
            "critical",
        ),
    ),
)
