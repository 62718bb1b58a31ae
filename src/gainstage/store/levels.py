"""Level of detail: minimum, maximum, mean and count of non-finite values of 64 or 4096 steps.

With these a picture of any stretch of a long run reads few values, and still shows a spike of one
step and a single NaN. Only bins that are complete are written; what is younger is in `steps/`.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# (PyArrow comes without types; what leaves this file has them.)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gainstage.facts.blocks import StepBlock
from gainstage.facts.tensor import TensorInfo
from gainstage.store.schema import list_column, list_field, number_column, schema_metadata

FACTOR = 64
LEVELS = (1, 2)
KIND = "gainstage.levels/1"
_SERIES = ("loss", "grad_norm")
_STATISTICS = ("minimum", "maximum", "mean")
# Sums of scaled values do not overflow, and a power of two costs no precision.
_SCALE = 2.0**-20

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bins:
    """Statistics of consecutive bins, a row a bin; columns are loss, grad_norm, then tensors.

    Minimum, maximum and mean are over finite values, NaN where a bin has none.
    """

    first_step: NDArray[np.int64]
    minimum: Matrix
    maximum: Matrix
    mean: Matrix
    finite: NDArray[np.int64]
    """How many values the mean is of."""
    nonfinite: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first_step)


def bins_of_steps(block: StepBlock) -> Bins:
    """Return every step as a bin of its own."""
    values = np.column_stack([block.loss, block.grad_norm, block.grad_norms.astype(np.float64)])
    has_norm = ~np.isnan(block.grad_norm) | block.present.any(axis=1)
    present = np.column_stack([block.has_loss, has_norm, block.present])
    finite = present & np.isfinite(values)
    shown = np.where(finite, values, np.nan)
    count = finite.astype(np.int64)
    return Bins(block.step, shown, shown, shown, count, (present & ~finite).astype(np.int64))


def merge(bins: Bins, width: int) -> Bins:
    """Return bins of `width` steps, aligned to multiples of it, from smaller ones in order."""
    if not len(bins):
        return bins
    number = bins.first_step // width
    starts = np.flatnonzero(np.concatenate([[True], number[1:] != number[:-1]]))
    finite = np.add.reduceat(bins.finite, starts)
    minimum = np.fmin.reduceat(bins.minimum, starts)
    maximum = np.fmax.reduceat(bins.maximum, starts)
    scaled = np.where(bins.finite > 0, bins.mean * _SCALE * bins.finite, 0.0)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = np.add.reduceat(scaled, starts) / finite / _SCALE
    return Bins(
        number[starts] * width,
        minimum,
        maximum,
        # Rounding must not carry a mean past the values that it is the mean of.
        np.clip(mean, minimum, maximum),
        finite,
        np.add.reduceat(bins.nonfinite, starts),
    )


class BinCollector:
    """Gathers steps into the bins of one level as blocks come, however those are cut."""

    def __init__(self, level: int) -> None:
        self.width = FACTOR**level
        self._open: Bins | None = None

    def add(self, bins: Bins) -> Bins:
        """Take in steps or smaller bins; return the bins of this level that they complete."""
        if not len(bins):
            return bins
        # First by themselves: then what is joined below is a few rows.
        bins = merge(bins, self.width)
        before = self._open
        if before is not None:
            columns = max(before.mean.shape[1], bins.mean.shape[1])
            bins = _joined(_widened(before, columns), _widened(bins, columns))
        merged = merge(bins, self.width)
        self._open = _rows(merged, slice(len(merged) - 1, None))
        return _rows(merged, slice(len(merged) - 1))

    def rest(self) -> Bins | None:
        """Return the bin that is still open."""
        return self._open


def levels_schema(tensors: Sequence[TensorInfo]) -> pa.Schema:
    """Return the columns of levels/rank=K/level=N; the schema's metadata name the tensors."""
    fields = [pa.field("step", pa.int64(), nullable=False)]
    for name in _SERIES:
        fields += [pa.field(f"{name}_{which}", pa.float64()) for which in _STATISTICS]
        fields.append(pa.field(f"{name}_nonfinite", pa.int64(), nullable=False))
    fields += [list_field(f"grad_norms_{w}", pa.float32(), len(tensors)) for w in _STATISTICS]
    fields.append(list_field("grad_norms_nonfinite", pa.int32(), len(tensors)))
    return pa.schema(fields, metadata=schema_metadata(KIND, tensors))


def levels_batch(bins: Bins, schema: pa.Schema, tensors: int) -> pa.RecordBatch:
    """Return bins as a batch of `levels_schema`; a statistic of no finite value is null."""
    bins = _widened(bins, tensors + len(_SERIES))
    columns = [number_column(bins.first_step)]
    present = bins.finite > 0
    tables = (bins.minimum, bins.maximum, bins.mean)
    for column in range(len(_SERIES)):
        columns += [
            number_column(np.ascontiguousarray(table[:, column]), present[:, column])
            for table in tables
        ]
        columns.append(number_column(np.ascontiguousarray(bins.nonfinite[:, column])))
    rest = slice(len(_SERIES), None)
    for table in tables:
        values = np.ascontiguousarray(table[:, rest], dtype=np.float32)
        columns.append(list_column(values, np.ascontiguousarray(present[:, rest])))
    columns.append(list_column(np.ascontiguousarray(bins.nonfinite[:, rest], dtype=np.int32)))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _rows(bins: Bins, rows: slice) -> Bins:
    return Bins(
        bins.first_step[rows],
        bins.minimum[rows],
        bins.maximum[rows],
        bins.mean[rows],
        bins.finite[rows],
        bins.nonfinite[rows],
    )


def _joined(first: Bins, second: Bins) -> Bins:
    return Bins(
        np.concatenate([first.first_step, second.first_step]),
        np.concatenate([first.minimum, second.minimum]),
        np.concatenate([first.maximum, second.maximum]),
        np.concatenate([first.mean, second.mean]),
        np.concatenate([first.finite, second.finite]),
        np.concatenate([first.nonfinite, second.nonfinite]),
    )


def _widened(bins: Bins, columns: int) -> Bins:
    missing = columns - bins.mean.shape[1]
    if missing <= 0:
        return bins
    nan = np.full((len(bins), missing), np.nan)
    zero = np.zeros((len(bins), missing), dtype=np.int64)
    return Bins(
        bins.first_step,
        np.hstack([bins.minimum, nan]),
        np.hstack([bins.maximum, nan]),
        np.hstack([bins.mean, nan]),
        np.hstack([bins.finite, zero]),
        np.hstack([bins.nonfinite, zero]),
    )
