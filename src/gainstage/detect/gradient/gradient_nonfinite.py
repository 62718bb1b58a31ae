"""`gradient-nonfinite`: a gradient that reached the optimizer holds NaN or inf.

Steps that a loss scaler leaves out have no row and are no sign of anything. A step that a treatment
left out (`skipped` is -1) did no harm: a warning.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gainstage.detect.series.sign import Sign
from gainstage.facts.blocks import StepBlock
from gainstage.facts.tensor import TensorInfo

_NAMED = 5


def look(block: StepBlock, tensors: Sequence[TensorInfo]) -> Sign | None:
    """Return the sign of a block, None where every gradient in it is finite."""
    hurt = block.present & ~np.isfinite(block.grad_norms)
    rows = np.flatnonzero(hurt.any(axis=1))
    if not len(rows):
        return None
    harmful = rows[block.skipped[rows] >= 0]
    first = int(harmful[0] if len(harmful) else rows[0])
    which = np.flatnonzero(hurt[first])
    names = [tensors[i].name for i in which[:_NAMED] if i < len(tensors)]
    values = block.grad_norms[first, which]
    kinds = [
        word
        for word, there in (("NaN", np.isnan(values).any()), ("inf", np.isinf(values).any()))
        if there
    ]
    more = f" and {len(which) - 1} more" if len(which) > 1 else ""
    left_out = "" if len(harmful) else "; the step was left out"
    step = int(block.step[first])
    return Sign(
        "gradient-nonfinite",
        "gradient",
        "critical" if len(harmful) else "warning",
        step,
        f"{' and '.join(kinds)} in the gradient of {names[0]}{more} at step {step}{left_out}",
        count=len(rows),
        last_step=int(block.step[rows[-1]]),
        evidence={"tensors": names, "tensors_hurt": len(which), "tensors_seen": hurt.shape[1]},
    )
