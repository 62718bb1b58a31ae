"""One step as the training thread hands it over, before rows become blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

Row: TypeAlias = tuple[
    int,  # step
    float,  # time, seconds since the epoch
    float | None,  # loss
    float | None,  # lr
    float | None,  # grad_norm; None where no gradient was there
    float | None,  # max_norm
    float | None,  # clip_coefficient
    int,  # skipped
    Sequence[float | None],  # norms: the 2-norm of each gradient; None for no gradient
]
"""One step: a plain tuple, for a named one takes 10x longer to make.

`norms` are in float64 and may be shorter than the list of tensors is by now.
"""

WeightRow: TypeAlias = tuple[int, Sequence[float | None]]
"""A step, and the 2-norm of each parameter."""
