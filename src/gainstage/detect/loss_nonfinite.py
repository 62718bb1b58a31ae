"""S1 `loss-nonfinite`: the loss is NaN or infinite."""

from __future__ import annotations

import numpy as np

from gainstage.detect.sign import Sign
from gainstage.records import StepBlock


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
