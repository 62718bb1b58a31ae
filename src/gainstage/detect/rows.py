"""The numbers of each step that detectors are fed with, computed for many steps at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gainstage.detect.series.trend import LARGEST
from gainstage.detect.update.update_bounds import largest_falls, usual_updates
from gainstage.facts.blocks import StepBlock
from gainstage.facts.observation import Observation, Observed
from gainstage.facts.tensor import TensorInfo

Series = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of one step, before the series that it belongs to."""

    step: int
    loss: float
    lr: float
    norm_bits: float
    update_ratio_bits: float
    adam_update_ratio: float
    fall: float
    """By how much the step's update can lower the loss; inf where that is not known."""
    group: bytes
    """Which tensors had a gradient."""


def rows_of(
    block: StepBlock,
    tensors: Sequence[TensorInfo],
    optimizers: Sequence[Observation[Observed]],
    weights_bits: float,
) -> Iterator[Row]:
    """Yield the steps of a block, one at least.

    Args:
        block: Steps between two samples of the weights.
        tensors: All that are watched.
        optimizers: How they were made, and how they stepped first.
        weights_bits: log2 of the norm of all weights; NaN where it is not known.
    """
    # Without a clip the coefficient is NaN. A treatment that left the step out moves nothing.
    clipped = np.where(np.isnan(block.clip_coefficient), 1.0, block.clip_coefficient)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        bits = np.log2(block.grad_norm)
        rate = block.lr * clipped * (block.skipped >= 0)
        ratios = bits + np.log2(rate) - weights_bits
    elements = _elements(block, tensors)
    falls = largest_falls(optimizers, rate, block.grad_norm, elements)
    usual = usual_updates(optimizers, block.lr, elements) if math.isfinite(weights_bits) else None
    unknown = np.full(len(block), np.nan)
    yield from map(
        Row,
        block.step.tolist(),
        np.where(block.has_loss, block.loss, np.nan).tolist(),
        block.lr.tolist(),
        bits.tolist(),
        ratios.tolist(),
        (unknown if usual is None else usual / 2.0**weights_bits).tolist(),
        np.nan_to_num(unknown if falls is None else falls, nan=np.inf).tolist(),
        _groups(block.present),
    )


def narrowest(tensors: Sequence[TensorInfo]) -> str:
    """Return the watched dtype with the smallest largest value."""
    dtypes = {info.dtype for info in tensors} & LARGEST.keys()
    return min(dtypes, key=LARGEST.__getitem__, default="float32")


def inputs_of(tensors: Sequence[TensorInfo]) -> float:
    """Return how many inputs a unit has: the mean over all elements of weight matrices."""
    matrices = [info for info in tensors if len(info.shape) > 1 and info.numel]
    elements = sum(info.numel for info in matrices)
    inputs = sum(info.numel * info.numel / info.shape[0] for info in matrices)
    return inputs / elements if elements else 0.0


def _elements(block: StepBlock, tensors: Sequence[TensorInfo]) -> Series:
    """Return how many elements each step has gradients for."""
    sizes = np.array([info.numel for info in tensors[: block.present.shape[1]]], np.float64)
    return block.present[:, : len(sizes)] @ sizes


def _groups(present: NDArray[np.bool_]) -> list[bytes]:
    """Return, for every row, which tensors had a gradient, however many there are by now."""
    if present.all():
        return [np.packbits(present[0]).tobytes().rstrip(b"\0")] * len(present)
    return [row.tobytes().rstrip(b"\0") for row in np.packbits(present, axis=1)]
