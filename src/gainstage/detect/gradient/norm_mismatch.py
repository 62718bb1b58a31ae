"""`norm-mismatch`: the norm that the script clips or steps by is not the norm of its gradients.

Seen at the clipping call: gradients that still hold a loss scale or have been stepped with already,
a parameter given twice, a part of what is stepped, nothing at all; and at the step: gradients of
earlier steps that were never zeroed. A parameter given twice and a part are notes, for a script may
mean them, and a run that fails later has not failed by them; the others can be nothing but a
mistake.
"""

from __future__ import annotations

from gainstage.detect.series.sign import Sign
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
from gainstage.facts.symptom import Severity

_NOTABLE = 1.05


def look(seen: Observation[Observed]) -> Sign | None:
    """Return the sign of an observation, None where it shows no wrong norm."""
    times = 1.0
    severity: Severity = "info"
    match seen.evidence:
        case GradientsNotZeroed() as left:
            return _of_running_sum(seen, left)
        case ClipScaled(ratio=times):
            severity = "warning"
            said = f"it is {times:g} times the gradients' own, for they still hold the loss scale"
        case ClipAfterStep(acts=True):
            severity = "warning"
            said = "the step has been taken already, with gradients that no limit has held"
        case ClipNothing(stepped=stepped):
            severity = "warning"
            said = (
                "what it is given has no gradient, as an iterator that was used up by then; "
                f"{stepped} tensors are stepped unclipped"
            )
        case ClipDuplicates(ratio=times) if times >= _NOTABLE:
            said = f"it is {times:.2f} times the gradients' own: parameters are given twice"
        case ClipPartial(parameters=clipped, stepped=stepped):
            said = f"it is that of {clipped} of the {stepped} tensors that are stepped"
        case _:
            return None
    where = "" if seen.line is None else f" in line {seen.line}"
    return Sign(
        "norm-mismatch",
        "gradient",
        severity,
        seen.step,
        f"the norm that the script clips by{where} is not the true one: {said}",
        last_step=seen.step,
        evidence={"form": seen.evidence.kind, "ratio": times},
    )


def _of_running_sum(seen: Observation[Observed], left: GradientsNotZeroed) -> Sign:
    where = "" if seen.line is None else f" in line {seen.line}"
    # All of them, and again: no gradient that this run steps with is that of its loss.
    is_sure = left.tensors == left.of and left.times > 1
    return Sign(
        "norm-mismatch",
        "gradient",
        "critical" if is_sure else "warning",
        seen.step,
        f"the gradients of {left.tensors} of {left.of} tensors are running sums: nothing has "
        f"zeroed them before the backward call{where}, so that step {seen.step} repeats the steps "
        "before it",
        last_step=seen.step,
        evidence={"form": seen.evidence.kind},
    )
