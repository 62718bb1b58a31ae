"""`norm-mismatch`: the norm that the script clips or steps by is not the norm of its gradients.

Seen at the clipping call: gradients that still hold a loss scale or have been stepped with already,
a parameter given twice, a part of what is stepped, nothing at all; and at the step: gradients of
earlier steps that were never zeroed. A parameter given twice and a part are notes, for a script may
mean them, and a run that fails later has not failed by them; the others can be nothing but a
mistake.
"""

from __future__ import annotations

from gainstage.detect.series.sign import Sign
from gainstage.facts.observation import Observation
from gainstage.facts.symptom import Severity

_NOTABLE = 1.05


def look(seen: Observation) -> Sign | None:
    """Return the sign of an observation, None where it shows no wrong norm."""
    if seen.kind == "gradient-not-zeroed":
        return _of_running_sum(seen)
    facts = seen.evidence
    ratio = facts.get("ratio")
    times = float(ratio) if isinstance(ratio, (int, float)) else 1.0
    severity: Severity = "info"
    match seen.kind:
        case "clip-scaled":
            severity = "warning"
            said = f"it is {times:g} times the gradients' own, for they still hold the loss scale"
        case "clip-after-step" if facts.get("acts"):
            severity = "warning"
            said = "the step has been taken already, with gradients that no limit has held"
        case "clip-nothing":
            severity = "warning"
            said = (
                "what it is given has no gradient, as an iterator that was used up by then; "
                f"{facts.get('stepped')} tensors are stepped unclipped"
            )
        case "clip-duplicates" if times >= _NOTABLE:
            said = f"it is {times:.2f} times the gradients' own: parameters are given twice"
        case "clip-partial":
            clipped, stepped = facts.get("parameters"), facts.get("stepped")
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
        evidence={"form": seen.kind, "ratio": times},
    )


def _of_running_sum(seen: Observation) -> Sign:
    where = "" if seen.line is None else f" in line {seen.line}"
    facts = seen.evidence
    tensors, of, times = facts.get("tensors"), facts.get("of"), facts.get("times", 1)
    # All of them, and again: no gradient that this run steps with is that of its loss.
    is_sure = tensors == of and isinstance(times, int) and times > 1
    return Sign(
        "norm-mismatch",
        "gradient",
        "critical" if is_sure else "warning",
        seen.step,
        f"the gradients of {tensors} of {of} tensors are running sums: nothing has zeroed them "
        f"before the backward call{where}, so that step {seen.step} repeats the steps before it",
        last_step=seen.step,
        evidence={"form": seen.kind},
    )
