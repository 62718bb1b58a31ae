"""A run's record reduced to what a picture can show, for the report and the dashboard.

A bin of many steps keeps its smallest and its largest value and whether it held NaN or inf, so a
spike of one step never disappears, however long the run.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gainstage.facts.blocks import StepBlock
from gainstage.facts.tensor import TensorInfo
from gainstage.store.window import Lines, bin_rows, largest_of, lines_of

MOST_COLUMNS = 2000
"""More bins than this no screen shows side by side."""
MOST_CELLS = 400_000
"""Cells of one heatmap: at two bytes each, about 1 MB of text in a report."""
CENTIBITS = 100
ABSENT, ZERO, NAN, INF = -32768, -32767, 32766, 32767
"""Codes of a heatmap's cell that is not a level: no gradient, 0, NaN or inf."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Band:
    """One series in bins: the range of its finite values, NaN where there is none."""

    minimum: Floats
    maximum: Floats
    nan: NDArray[np.bool_]
    inf: NDArray[np.bool_]

    def as_json(self) -> dict[str, Any]:
        """Return the series as the front end reads it."""
        return {
            "minimum": _numbers(self.minimum),
            "maximum": _numbers(self.maximum),
            "nan": np.flatnonzero(self.nan).tolist(),
            "inf": np.flatnonzero(self.inf).tolist(),
        }


def figures(rank: int, tensors: Sequence[TensorInfo], block: StepBlock) -> dict[str, Any]:
    """Return all pictures of one rank as the JSON that the front end draws.

    Levels are in bits. `cells` is the base64 text of little-endian int16, a row a tensor and a
    column a bin: the largest level in hundredths of a bit, or a code (`ABSENT` and its like).
    """
    starts = bin_starts(block.step, most_columns(len(tensors)))
    return {
        "rank": rank,
        "tensors": tensors_json(tensors),
        **lines_json(lines_of(block), starts),
        "cells": cells_text(largest_of(block, starts)),
    }


def most_columns(tensors: int) -> int:
    """Return how many bins a heatmap of so many tensors has at most."""
    return max(1, min(MOST_COLUMNS, MOST_CELLS // max(1, tensors)))


def tensors_json(tensors: Sequence[TensorInfo]) -> list[dict[str, Any]]:
    """Return the rows of the heatmap."""
    return [
        {
            "name": tensor.name,
            "module": tensor.module,
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
        }
        for tensor in tensors
    ]


def lines_json(lines: Lines, starts: NDArray[np.int64]) -> dict[str, Any]:
    """Return loss, norm and limit of the clipping in bins."""
    with np.errstate(divide="ignore", invalid="ignore"):
        norm_bits = np.log2(np.where(lines.grad_norm == 0, np.nan, lines.grad_norm))
        max_norm_bits = np.log2(lines.max_norm)
    # A norm of 0 has no level; it is not NaN either.
    has_norm = lines.has_norm & (lines.grad_norm != 0)
    was_clipped = ~np.isnan(lines.max_norm)
    return {
        "step": lines.step[starts].tolist(),
        "last_step": int(lines.step[-1]) if len(lines) else -1,
        "loss": band(lines.loss, lines.has_loss, starts).as_json(),
        "norm_bits": band(norm_bits, has_norm, starts).as_json(),
        "max_norm_bits": band(max_norm_bits, was_clipped, starts).as_json(),
    }


def bin_starts(steps: NDArray[np.int64], columns: int) -> NDArray[np.int64]:
    """Return the row at which each bin begins: at most `columns` bins of equally many steps.

    A bin covers a power of two of steps and is aligned to it, so it stays as it is as a run grows.
    """
    return bin_rows(steps, bin_width(steps, columns))


def bin_width(steps: NDArray[np.int64], columns: int) -> int:
    """Return the least power of two so that bins of so many steps are at most `columns`."""
    width = 1
    while width * columns < len(steps) or len(bin_rows(steps, width)) > columns:
        width *= 2
    return width


def band(values: Floats, present: NDArray[np.bool_], starts: NDArray[np.int64]) -> Band:
    """Return a series in bins; what is not given counts as neither value nor NaN."""
    if not len(starts):
        none = np.zeros(0, np.bool_)
        return Band(np.zeros(0), np.zeros(0), none, none)
    finite = np.where(present & np.isfinite(values), values, np.nan)
    return Band(
        np.fmin.reduceat(finite, starts),
        np.fmax.reduceat(finite, starts),
        np.logical_or.reduceat(present & np.isnan(values), starts),
        np.logical_or.reduceat(present & np.isinf(values), starts),
    )


def cells(largest: NDArray[np.float32]) -> NDArray[np.int16]:
    """Return the codes of a heatmap, (tensors, bins), from the largest norms, (bins, tensors).

    Bins are reduced before a logarithm is taken, so the work beyond reading is that of the picture.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        level = np.rint(np.log2(largest.astype(np.float64)) * CENTIBITS)
    code = np.where(np.isfinite(level), level, 0).astype(np.int16)
    code[largest == 0] = ZERO
    code[largest == np.inf] = INF
    code[np.isnan(largest)] = NAN
    code[largest == -np.inf] = ABSENT
    return code.T


def cells_text(largest: NDArray[np.float32]) -> str:
    """Return the same as the text that the front end reads."""
    return base64.b64encode(cells(largest).astype("<i2").tobytes()).decode("ascii")


def _numbers(values: Floats) -> list[float | None]:
    return [None if value != value else float(f"{value:.6g}") for value in values.tolist()]
