"""What one step's gradients were, before anything clipped them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

Norms: TypeAlias = list[float | None]


class StepMetrics(msgspec.Struct, frozen=True, gc=False):
    """The numbers of one step. A msgspec struct: a frozen dataclass takes twenty times as long."""

    norms: Sequence[float | None]
    """2-norm of each gradient of the plan; None where a parameter has no gradient."""
    grad_norm: float | None
    """2-norm of all together, None where there is no gradient at all."""
    max_norm: float | None = None
    """Limit of the last clipping call or treatment; None where nothing clipped by norm."""
    clip_coefficient: float | None = None
    is_left_out: bool = False
    """Whether a treatment has left the step out."""
