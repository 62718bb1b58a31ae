"""Any stretch of a long run at the resolution of a screen, from the level tables where they do.

A series of one number a step is read whole: a million of them are 8 MB. Of the gradients' norms,
a number a step and tensor, bins of 64 steps and more come from `levels/`; what these do not cover
yet, and whether a value there was NaN or inf, from `steps/`. So the answer is the same as from the
steps themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gainstage.facts.blocks import StepBlock
from gainstage.facts.tensor import TensorInfo
from gainstage.store.follow import Followed
from gainstage.store.levels import FACTOR, LEVELS
from gainstage.store.schema import read_lists, read_numbers, stack_padded, steps_block, tensors_of

Floats = NDArray[np.float64]
Norms = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Lines:
    """What a step has one number of; NaN in `loss` is a value only where `has_loss`."""

    step: NDArray[np.int64]
    loss: Floats
    has_loss: NDArray[np.bool_]
    grad_norm: Floats
    has_norm: NDArray[np.bool_]
    max_norm: Floats
    """NaN where nothing was clipped."""

    def __len__(self) -> int:
        return len(self.step)

    def part(self, rows: slice) -> Lines:
        """Return some of the rows."""
        return Lines(*(getattr(self, name)[rows] for name in Lines.__slots__))


def lines_of(block: StepBlock) -> Lines:
    """Return the lines of a block."""
    return Lines(
        block.step,
        block.loss,
        block.has_loss,
        block.grad_norm,
        block.present.any(axis=1) | ~np.isnan(block.grad_norm),
        block.max_norm,
    )


def bin_rows(steps: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Return the row at which each bin of `width` steps begins, aligned to multiples of it."""
    number = steps // width
    return np.flatnonzero(np.concatenate([number[:1] >= 0, number[1:] != number[:-1]]))


def largest_of(block: StepBlock, starts: NDArray[np.int64]) -> Norms:
    """Return the largest norm of each tensor in bins, (bins, tensors): NaN wins, then inf.

    -inf where no step of a bin had a gradient. `starts` are rows of the block.
    """
    ends = np.append(starts[1:], len(block))
    norms_of_bins = np.full((len(starts), block.grad_norms.shape[1]), -np.inf, np.float32)
    for row, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        norms, present = block.grad_norms[start:end], block.present[start:end]
        # Where all is there, a mask would cost four times the time.
        where: Any = True if present.strides == (0, 0) else present
        np.max(norms, axis=0, where=where, initial=-np.inf, out=norms_of_bins[row])
    return norms_of_bins


class RankSteps:
    """The steps of one rank of a run, followed as it grows. Not for several threads at once."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.tensors: tuple[TensorInfo, ...] = ()
        self.lines = _no_lines()
        self._steps = Followed(folder / "steps" / f"rank={rank}")
        self._levels = {
            FACTOR**level: Followed(folder / "levels" / f"rank={rank}" / f"level={level}")
            for level in LEVELS
        }
        self._ends: NDArray[np.int64] = np.zeros(0, np.int64)

    def refresh(self) -> bool:
        """Read what was written since; tell whether there are other steps than before."""
        if not self._steps.refresh():
            return False
        for level in self._levels.values():
            level.refresh()
        batches = self._steps.batches
        self.tensors = tensors_of(batches[-1].schema) if batches else ()
        self._ends = np.cumsum([batch.num_rows for batch in batches], dtype=np.int64)
        self.lines = _lines(batches)
        return True

    def rows(self, first: int, last: int) -> slice:
        """Return the rows of the steps from `first` to `last`, both included."""
        start, end = np.searchsorted(self.lines.step, [first, last + 1]).tolist()
        return slice(start, max(start, end))

    def largest(self, rows: slice, width: int) -> Norms:
        """Return what `largest_of` does for some rows in bins of `width`, a power of two."""
        steps = self.lines.step[rows]
        tensors = len(self.tensors)
        norms_of_bins = np.full((len(bin_rows(steps, width)), tensors), -np.inf, np.float32)
        if not len(steps):
            return norms_of_bins
        fine = max((each for each in self._levels if each <= width), default=1)
        parts = list(self._fine_bins(rows, fine))
        numbers = np.concatenate([bins for bins, _ in parts])
        norms = stack_padded([norms for _, norms in parts], tensors, -np.inf)
        order = np.argsort(numbers, kind="stable")
        starts = bin_rows(numbers[order] * fine, width)
        return np.maximum.reduceat(norms[order], starts, axis=0)

    def _fine_bins(self, rows: slice, width: int) -> Iterator[tuple[NDArray[np.int64], Norms]]:
        """Yield numbers of bins and the largest norms in them, as they come: from levels, steps."""
        steps = self.lines.step[rows]
        wanted = np.unique(steps // width)
        covered = np.zeros(0, np.int64)
        if width > 1:
            # A bin that the window cuts would bring in what lies outside.
            whole = wanted[(wanted * width >= steps[0]) & ((wanted + 1) * width - 1 <= steps[-1])]
            for numbers, norms in self._from_level(width, whole):
                covered = np.union1d(covered, numbers)
                yield numbers, norms
        missing = wanted[~np.isin(wanted, covered)]
        for first, last in _stretches(missing):
            part = self.rows(
                max(first * width, int(steps[0])), min((last + 1) * width - 1, int(steps[-1]))
            )
            for block in self._blocks(part):
                starts = bin_rows(block.step, width)
                yield block.step[starts] // width, largest_of(block, starts)

    def _from_level(
        self, width: int, whole: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], Norms]]:
        if not len(whole):
            return
        for batch in self._levels[width].batches:
            numbers = read_numbers(batch, "step")[0] // width
            start, end = np.searchsorted(numbers, [whole[0], whole[-1] + 1]).tolist()
            if start >= end:
                continue
            part = batch.slice(start, end - start)
            numbers = numbers[start:end]
            values, given = read_lists(part, "grad_norms_maximum")
            nonfinite, _ = read_lists(part, "grad_norms_nonfinite")
            norms = np.where(given, values, np.float32(-np.inf))
            for row in np.flatnonzero(nonfinite.any(axis=1)).tolist():
                columns = np.flatnonzero(nonfinite[row])
                norms[row, columns] = self._kind(int(numbers[row]) * width, width, columns)
            yield numbers, norms

    def _kind(self, first: int, width: int, columns: NDArray[np.intp]) -> Norms:
        """Return NaN or inf for tensors that had either in a bin: the levels only count both."""
        kind = np.full(len(columns), np.inf, np.float32)
        # From the end: NaN stays once it has come, and then one row tells.
        for block in reversed(list(self._blocks(self.rows(first, first + width - 1)))):
            open_ = np.flatnonzero(np.isinf(kind) & (columns < block.grad_norms.shape[1]))
            last = block.grad_norms[-1, columns[open_]]
            kind[open_[np.isnan(last) & block.present[-1, columns[open_]]]] = np.nan
            open_ = open_[np.isinf(kind[open_])]
            is_nan = np.isnan(block.grad_norms[:, columns[open_]])
            kind[open_[(is_nan & block.present[:, columns[open_]]).any(axis=0)]] = np.nan
        return kind

    def _blocks(self, rows: slice) -> Iterator[StepBlock]:
        """Yield rows as blocks that lie in the memory map."""
        first = int(np.searchsorted(self._ends, rows.start, side="right"))
        at = rows.start
        while at < rows.stop:
            batch = self._steps.batches[first]
            offset = at - (int(self._ends[first]) - batch.num_rows)
            size = min(rows.stop, int(self._ends[first])) - at
            yield steps_block(batch.slice(offset, size))
            at, first = at + size, first + 1


def _stretches(numbers: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last of consecutive numbers."""
    cuts = np.flatnonzero(np.diff(numbers) > 1) + 1
    for part in np.split(numbers, cuts):
        if len(part):
            yield int(part[0]), int(part[-1])


def _lines(batches: Sequence[Any]) -> Lines:
    if not batches:
        return _no_lines()

    def joined(name: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        read = [read_numbers(batch, name) for batch in batches]
        return np.concatenate([v for v, _ in read]), np.concatenate([given for _, given in read])

    loss, has_loss = joined("loss")
    grad_norm, has_norm = joined("grad_norm")
    return Lines(joined("step")[0], loss, has_loss, grad_norm, has_norm, joined("max_norm")[0])


def _no_lines() -> Lines:
    none, no = np.zeros(0), np.zeros(0, np.bool_)
    return Lines(np.zeros(0, np.int64), none, no, none, no, none)
