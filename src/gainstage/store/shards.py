"""The true norms of a sharded training, from the parts that its ranks have written.

Each rank records the norm of what it holds. The square of a tensor's norm is the sum of those of
its parts, and what other ranks hold besides, as other stages of a pipeline do, counts to the total.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gainstage.facts.blocks import StepBlock, WeightBlock
from gainstage.facts.layout import Layout
from gainstage.facts.tensor import TensorInfo

Key = tuple[int | None, str]
"""A tensor of the whole model: its stage and its name."""
Squares = NDArray[np.float64]
_STABILITY = 1e-6
"""As torch's clipping adds to the norm."""


@dataclass(frozen=True, slots=True)
class RankPart:
    """What one rank has recorded."""

    tensors: Sequence[TensorInfo]
    steps: NDArray[np.int64]
    norms: NDArray[np.float32]
    present: NDArray[np.bool_]


def is_sharded(tensors: Iterable[TensorInfo]) -> bool:
    """Tell whether a rank has only a part of what it trains."""
    return any(tensor.layout is not None for tensor in tensors)


def part_ranks(layout: Layout, rank: int) -> tuple[int, ...]:
    """Return the ranks whose parts make up the tensor, each of its numbers once.

    Of what is replicated the copy is taken that the rank belongs to.
    """
    if not layout.sizes:
        return (rank,)
    offset = rank - layout.first
    choices: list[Sequence[int]] = []
    dims = zip(layout.sizes, layout.strides, layout.placements, strict=True)
    for size, stride, placement in sorted(dims, key=lambda dim: -dim[1]):
        place, offset = divmod(offset, stride) if stride else (0, offset)
        places = range(size) if placement == "shard" else (place,)
        choices.append([each * stride for each in places])
    return tuple(layout.first + sum(each) for each in itertools.product(*choices))


def whole_steps(rank: int, block: StepBlock, parts: Mapping[int, RankPart]) -> StepBlock:
    """Return a rank's steps with the true norms; those are absent where a part is not there yet.

    A norm that is not finite in a part is not finite in all, whatever is missing.
    """
    tensors = parts[rank].tensors
    squares, present, known = _squares(rank, tensors, block.step, parts, is_gradient=True)
    own = np.where(present, squares, 0.0).sum(axis=1)
    others, others_known = _other_stages(rank, block.step, parts)
    total = np.sqrt(own + others)
    is_known = (known | ~present).all(axis=1) & others_known
    grad_norm = np.where(is_known | ~np.isfinite(total), total, np.nan)
    grad_norm = np.where(present.any(axis=1) | (others > 0), grad_norm, np.nan)
    shown = present & (known | ~np.isfinite(squares))
    clipped = ~np.isnan(block.max_norm) & np.isnan(block.clip_coefficient)
    with np.errstate(invalid="ignore"):
        factor = np.minimum(1.0, block.max_norm / (grad_norm + _STABILITY))
    return replace(
        block,
        grad_norm=grad_norm,
        clip_coefficient=np.where(clipped, factor, block.clip_coefficient),
        grad_norms=np.where(shown, np.sqrt(squares), np.nan).astype(np.float32),
        present=shown,
    )


def whole_weights(rank: int, block: WeightBlock, parts: Mapping[int, RankPart]) -> WeightBlock:
    """Return a rank's samples of the weights with the true norms, absent where a part is."""
    tensors = parts[rank].tensors
    squares, present, known = _squares(rank, tensors, block.step, parts, is_gradient=False)
    shown = present & (known | ~np.isfinite(squares))
    norms = np.where(shown, np.sqrt(squares), np.nan).astype(np.float32)
    return replace(block, weight_norms=norms, present=shown)


def _squares(
    rank: int,
    tensors: Sequence[TensorInfo],
    steps: NDArray[np.int64],
    parts: Mapping[int, RankPart],
    *,
    is_gradient: bool,
) -> tuple[Squares, NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the square of each tensor's norm, where it is there, and where it is known whole."""
    shape = len(steps), len(tensors)
    squares, known = np.zeros(shape), np.ones(shape, bool)
    present = np.zeros(shape, bool)
    places = {other: _columns(part.tensors) for other, part in parts.items()}
    rows = {other: _rows(part.steps, steps) for other, part in parts.items()}
    for column, tensor in enumerate(tensors):
        layout = tensor.layout or Layout()
        if is_gradient and "partial" in layout.placements:
            known[:, column] = False
        for other in part_ranks(layout, rank):
            place = places.get(other, {}).get(_key(tensor))
            if place is None:
                known[:, column] = False
                continue
            row, is_there = rows[other]
            known[:, column] &= is_there
            norm = parts[other].norms[row, place].astype(np.float64)
            has = is_there & parts[other].present[row, place]
            squares[:, column] += np.where(has, norm * norm, 0.0)
            present[:, column] |= has
    return squares, present, known


def _other_stages(
    rank: int, steps: NDArray[np.int64], parts: Mapping[int, RankPart]
) -> tuple[Squares, NDArray[np.bool_]]:
    """Return the squares of what other stages of a pipeline hold, and where all of it is there."""
    total, known = np.zeros(len(steps)), np.ones(len(steps), bool)
    mine = {_stage(tensor) for tensor in parts[rank].tensors}
    if mine == {None}:
        return total, known
    seen = set(mine)
    for other in sorted(parts):
        tensors = parts[other].tensors
        new = [column for column, each in enumerate(tensors) if _stage(each) not in seen]
        if not new:
            continue
        seen |= {_stage(each) for each in tensors}
        squares, present, whole = _squares(other, tensors, steps, parts, is_gradient=True)
        total += np.where(present, squares, 0.0)[:, new].sum(axis=1)
        known &= whole[:, new].all(axis=1)
    return total, known


def _stage(tensor: TensorInfo) -> int | None:
    return None if tensor.layout is None else tensor.layout.stage


def _key(tensor: TensorInfo) -> Key:
    return _stage(tensor), tensor.name


def _columns(tensors: Sequence[TensorInfo]) -> dict[Key, int]:
    return {_key(tensor): column for column, tensor in enumerate(tensors)}


def _rows(
    recorded: NDArray[np.int64], wanted: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return for each wanted step its row, and whether there is one."""
    if not len(recorded):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    row = np.minimum(np.searchsorted(recorded, wanted), len(recorded) - 1)
    return row, recorded[row] == wanted
