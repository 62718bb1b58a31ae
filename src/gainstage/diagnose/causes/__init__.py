"""Every cause that a run is diagnosed with, one file each.

To add one, write its file and put it into this list.
"""

from __future__ import annotations

from collections.abc import Mapping

from gainstage.diagnose.cause_kind import CauseKind
from gainstage.diagnose.causes import (
    bad_data,
    clip_misuse,
    dtype_overflow,
    grad_accumulation,
    init_scale,
    learning_rate,
    loss_reduction,
    normalization,
    numeric_op,
    optimizer_config,
    recurrent_gain,
    residual_growth,
    unbounded_objective,
)

CAUSES: tuple[CauseKind, ...] = (
    init_scale.KIND,
    recurrent_gain.KIND,
    learning_rate.KIND,
    residual_growth.KIND,
    bad_data.KIND,
    numeric_op.KIND,
    dtype_overflow.KIND,
    clip_misuse.KIND,
    loss_reduction.KIND,
    grad_accumulation.KIND,
    normalization.KIND,
    unbounded_objective.KIND,
    optimizer_config.KIND,
)
"""In the order in which equally likely ones are named."""

CAUSE: Mapping[str, CauseKind] = {kind.id: kind for kind in CAUSES}
"""By id."""
