"""`norm-mismatch`: the norm that the script clips by is not the norm of its gradients.

Seen at the clipping call: gradients that still hold a loss scale, a parameter given twice, a part
of what is stepped. Only the first can be nothing but a mistake: the others are notes, for a script
may mean them, and a run that fails later has not failed by them.
"""

from __future__ import annotations

from gainstage.detect.sign import Sign
from gainstage.records import Observation, Severity

_NOTABLE = 1.05


def look(seen: Observation) -> Sign | None:
    """Return the sign of an observation, None where it shows no wrong norm."""
    facts = seen.evidence
    ratio = facts.get("ratio")
    times = float(ratio) if isinstance(ratio, (int, float)) else 1.0
    severity: Severity = "info"
    match seen.kind:
        case "clip-scaled":
            severity = "warning"
            said = f"it is {times:g} times the gradients' own, for they still hold the loss scale"
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
