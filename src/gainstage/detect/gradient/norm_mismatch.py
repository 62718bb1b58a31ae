"""`norm-mismatch`: the norm that the script clips or steps by is not the norm of its gradients.

Seen at the clipping call: gradients that still hold a loss scale or have been stepped with already,
a parameter given twice, a part of what is stepped, nothing at all; and at the step: gradients of
earlier steps that were never zeroed. A parameter given twice and a part are notes, for a script may
mean them, and a run that fails later has not failed by them; the others can be nothing but a
mistake.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from gainstage.detect.kind.symptom_kind import Detector, DocRow, Signal, Signals, SymptomKind
from gainstage.facts.observation import (
    ClipAfterStep,
    ClipDuplicates,
    ClipNothing,
    ClipPartial,
    ClipScaled,
    GradientsNotZeroed,
    Observation,
    Observed,
)
from gainstage.facts.ranges import OMIT
from gainstage.facts.symptom import Severity

_NOTABLE = 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongClipNormEvidence:
    """A clip by another norm than that of the gradients which are stepped with."""

    form: Literal[
        "clip-scaled",  # the gradients still hold the loss scale
        "clip-after-step",
        "clip-nothing",  # it is given nothing with a gradient
        "clip-duplicates",  # a parameter is given twice
        "clip-partial",  # it is given a part of what is stepped
    ]
    ratio: float = 1.0
    """Of the norm that the script clips by to the true one; 1 where it is not known."""
    clipped: int | None = field(default=None, metadata=OMIT)
    """Tensors that it is given."""
    stepped: int | None = field(default=None, metadata=OMIT)
    """Tensors that are stepped."""
    line: int | None = field(default=None, metadata=OMIT)
    """Of the clipping call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningSumEvidence:
    """Gradients that nothing has zeroed before the backward call."""

    form: Literal["gradient-not-zeroed"] = "gradient-not-zeroed"
    tensors: int
    """Tensors whose gradient is a running sum."""
    of: int
    """Tensors with a gradient."""
    line: int | None = field(default=None, metadata=OMIT)
    """Of the backward call."""
    at_step: int


Evidence = WrongClipNormEvidence | RunningSumEvidence


def message(evidence: Evidence) -> str:
    """Return the sentence for people."""
    where = "" if evidence.line is None else f" in line {evidence.line}"
    if isinstance(evidence, RunningSumEvidence):
        return (
            f"the gradients of {evidence.tensors} of {evidence.of} tensors are running sums: "
            f"nothing has zeroed them before the backward call{where}, so that step "
            f"{evidence.at_step} repeats the steps before it"
        )
    return f"the norm that the script clips by{where} is not the true one: {_why(evidence)}"


def _why(evidence: WrongClipNormEvidence) -> str:
    ratio, stepped = evidence.ratio, evidence.stepped
    match evidence.form:
        case "clip-scaled":
            return f"it is {ratio:g} times the gradients' own, for they still hold the loss scale"
        case "clip-after-step":
            return "the step has been taken already, with gradients that no limit has held"
        case "clip-nothing":
            return (
                "what it is given has no gradient, as an iterator that was used up by then; "
                f"{stepped} tensors are stepped unclipped"
            )
        case "clip-duplicates":
            return f"it is {ratio:.2f} times the gradients' own: parameters are given twice"
        case "clip-partial":
            return f"it is that of {evidence.clipped} of the {stepped} tensors that are stepped"


def update(state: None, seen: Observation[Observed]) -> tuple[None, Signals]:
    """Return the signal of an observation, none where it shows no wrong norm."""
    judged = _judge(seen)
    if judged is None:
        return state, ()
    severity, evidence = judged
    signal = Signal(evidence=evidence, severity=severity, step=seen.step, last_step=seen.step)
    return state, (signal,)


def _judge(seen: Observation[Observed]) -> tuple[Severity, Evidence] | None:
    line = seen.line
    match seen.evidence:
        case GradientsNotZeroed(tensors=tensors, of=of, times=times):
            # All of them, and again: no gradient that this run steps with is that of its loss.
            is_sure = tensors == of and times > 1
            return (
                "critical" if is_sure else "warning",
                RunningSumEvidence(tensors=tensors, of=of, line=line, at_step=seen.step),
            )
        case ClipScaled(ratio=ratio):
            return "warning", WrongClipNormEvidence(form="clip-scaled", ratio=ratio, line=line)
        case ClipAfterStep(acts=True):
            return "warning", WrongClipNormEvidence(form="clip-after-step", line=line)
        case ClipNothing(stepped=stepped):
            return "warning", WrongClipNormEvidence(form="clip-nothing", stepped=stepped, line=line)
        case ClipDuplicates(ratio=ratio) if ratio >= _NOTABLE:
            return "info", WrongClipNormEvidence(form="clip-duplicates", ratio=ratio, line=line)
        case ClipPartial(parameters=clipped, stepped=stepped):
            return "info", WrongClipNormEvidence(
                form="clip-partial", clipped=clipped, stepped=stepped, line=line
            )
        case _:
            return None


KIND = SymptomKind(
    id="norm-mismatch",
    evidence=(WrongClipNormEvidence, RunningSumEvidence),
    detectors=(Detector(family="gradient", observations=update),),
    message=message,
    docs=(
        DocRow(
            "the script's clip saw scaled gradients, or ones already stepped with, a parameter "
            "twice, or (all calls before a step together) a part of what is stepped, or nothing at "
            "all; gradients stepped with are running sums that nothing zeroes",
            "clipping calls, gradients as backward begins",
            "ratio",
            "warning; note for a part, and for twice; critical for all gradients being running "
            "sums at two samples",
            "a clip in several calls; one optimizer of several; a late clip that never acts",
        ),
    ),
)
