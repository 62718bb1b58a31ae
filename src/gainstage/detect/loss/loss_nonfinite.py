"""S1 `loss-nonfinite`: the loss is NaN or infinite."""

from __future__ import annotations

import numpy as np

from gainstage.detect.series.sign import Sign
from gainstage.facts.blocks import StepBlock
from gainstage.facts.fault import Fault


def look(block: StepBlock) -> Sign | None:
    """Return the sign of a block, None where every loss in it is finite."""
    bad = np.flatnonzero(block.has_loss & ~np.isfinite(block.loss))
    if not len(bad):
        return None
    value = float(block.loss[bad[0]])
    step, last = int(block.step[bad[0]]), int(block.step[bad[-1]])
    return Sign(
        "loss-nonfinite",
        "loss",
        "critical",
        step,
        f"the loss became {value} at step {step}",
        count=len(bad),
        last_step=last,
        evidence={"value": value},
    )


def look_at_fault(fault: Fault) -> Sign | None:
    """Return the sign of a loss that no row holds, for the script stopped at it."""
    if not fault.evidence.no_backward:
        return None
    value = fault.evidence.value or "nan"
    return Sign(
        "loss-nonfinite",
        "loss",
        "critical",
        fault.step,
        f"the loss became {value} at step {fault.step}, and no backward call was made on it",
        count=1,
        last_step=fault.step,
        evidence={"value": float(value)},
    )
