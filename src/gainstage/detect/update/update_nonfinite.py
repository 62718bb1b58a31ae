"""`update-nonfinite`: gradients were finite, yet what the optimizer wrote is not.

Seen by the autopsy of the step after, whose forward pass meets the weight.
"""

from __future__ import annotations

from gainstage.detect.series.sign import Sign
from gainstage.facts.fault import Fault


def look(fault: Fault) -> Sign | None:
    """Return the sign of a fault, None where it is another kind."""
    if fault.kind != "update":
        return None
    return Sign(
        "update-nonfinite",
        "weight",
        "critical",
        fault.step,
        f"{fault.text} at step {fault.step}",
        last_step=fault.step,
        evidence={"parameter": fault.parameter, "op": fault.site.op},
    )
