"""Rows of steps and of weights into blocks of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gainstage.facts.blocks import StepBlock, WeightBlock
from gainstage.facts.rows import Row, WeightRow

_FLOAT32 = np.finfo(np.float32)


def to_block(rows: Sequence[Row], tensors: int) -> StepBlock:
    """Return `rows` as one block with `tensors` columns of gradients."""
    columns: Any = zip(*rows, strict=True) if rows else [()] * 9
    step, time, loss, lr, total, max_norm, clip_coefficient, skipped, norms = columns
    values, present = _matrix(norms, tensors)
    return StepBlock(
        step=np.array(step, dtype=np.int64),
        time=np.array(time, dtype=np.float64),
        # NumPy reads None as NaN where a float is asked for.
        loss=np.array(loss, dtype=np.float64),
        has_loss=_is_given(loss),
        lr=np.array(lr, dtype=np.float64),
        grad_norm=np.array(total, dtype=np.float64),
        max_norm=np.array(max_norm, dtype=np.float64),
        clip_coefficient=np.array(clip_coefficient, dtype=np.float64),
        skipped=np.array(skipped, dtype=np.int64),
        grad_norms=narrowed(values),
        present=present,
    )


def to_weight_block(rows: Sequence[WeightRow], tensors: int) -> WeightBlock:
    """Return sampled weight norms as one block with `tensors` columns."""
    columns: Any = zip(*rows, strict=True) if rows else [()] * 2
    step, norms = columns
    values, present = _matrix(norms, tensors)
    return WeightBlock(np.array(step, dtype=np.int64), narrowed(values), present)


def _matrix(
    rows: Sequence[Sequence[float | None]], tensors: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    if not {len(row) for row in rows} <= {tensors}:
        rows = [[*row[:tensors], *[None] * (tensors - len(row))] for row in rows]
    flat: list[float | None] = list(chain.from_iterable(rows))
    shape = (len(rows), tensors)
    # One flat list takes half the time of a list of lists. None becomes NaN.
    values = np.array(flat, dtype=np.float64).reshape(shape)
    if not np.isnan(values).any():
        return values, np.ones(shape, dtype=np.bool_)
    # Only now is it worth asking which NaN is a None.
    return values, np.array([value is not None for value in flat], dtype=np.bool_).reshape(shape)


def _is_given(values: Sequence[float | None]) -> NDArray[np.bool_]:
    if None not in values:
        return np.ones(len(values), dtype=np.bool_)
    return np.array([value is not None for value in values], dtype=np.bool_)


def narrowed(norms: NDArray[np.float64]) -> NDArray[np.float32]:
    """Narrow norms so that inf stays the sign of a non-finite gradient, 0 that of a zero one."""
    with np.errstate(over="ignore", under="ignore"):
        narrow = norms.astype(np.float32)
    narrow[np.isinf(narrow) & np.isfinite(norms)] = _FLOAT32.max
    narrow[(narrow == 0) & (norms > 0)] = _FLOAT32.smallest_subnormal
    return narrow
