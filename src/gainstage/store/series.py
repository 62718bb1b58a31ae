"""Which numbers of a run go to other tools, under which names, and how many: the one place.

- of each step: `loss`, `lr`, `grad_norm`, `clip_coefficient`, `skipped`;
- over all tensors: `grad_norm_max`, `grad_norm_median`, `nonfinite_tensors`;
- of at most 12 tensors: `grad_norm/<tensor>`. Of a larger model those are the 4 with the largest
  norms at first, and the 8 whose norms rise most; live, where the end is not known, the first 8 to
  rise by 3 bits. A tensor that is among the first with an inf or NaN has risen without bound.
- if everything is asked for: `grad_norm/<tensor>` and, sampled, `weight_norm/<tensor>` of each.

A quantity that a run does not have is left out. Tools that group charts get `gainstage/` before the
names without a tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from gainstage.facts.blocks import StepBlock, WeightBlock
from gainstage.facts.tensor import TensorInfo

MOST_TENSORS = 12
FIRST_TENSORS = 4
RISE_BITS = 3.0
_CHUNK = 4096
_COUNTS = ("skipped", "nonfinite_tensors")
_OF_RUN = ("loss", "lr", "grad_norm", "clip_coefficient", "skipped")
_OVER_TENSORS = ("grad_norm_max", "grad_norm_median", "nonfinite_tensors")


@dataclass(frozen=True, slots=True)
class Series:
    """One number a step: a column of a file, a chart of a tool."""

    quantity: str
    tensor: str | None = None

    @property
    def column(self) -> str:
        """Return the name in CSV and Parquet, such as `grad_norm/fc.weight`."""
        return self.quantity if self.tensor is None else f"{self.quantity}/{self.tensor}"

    @property
    def chart(self) -> str:
        """Return the name in tools that group charts, such as `gainstage/loss`."""
        return f"gainstage/{self.column}" if self.tensor is None else self.column

    @property
    def is_count(self) -> bool:
        """Tell whether its values are whole numbers."""
        return self.quantity in _COUNTS


@dataclass(frozen=True, slots=True)
class SeriesBlock:
    """Consecutive steps of several series. NaN and inf are values where `given`."""

    step: NDArray[np.int64]
    time: NDArray[np.float64]
    series: tuple[Series, ...]
    values: NDArray[np.float64]
    """Shape (steps, series)."""
    given: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.step)

    def rows(self) -> Iterator[tuple[int, float, dict[Series, float]]]:
        """Yield step, time and the values that are there."""
        columns = zip(self.values.tolist(), self.given.tolist(), strict=True)
        for step, time, (values, given) in zip(
            self.step.tolist(), self.time.tolist(), columns, strict=True
        ):
            cells = zip(self.series, values, given, strict=True)
            yield step, time, {series: value for series, value, there in cells if there}


class Choice:
    """Chooses the series of a run, while it trains or after it has ended."""

    def __init__(self, *, everything: bool = False) -> None:
        """Begin with nothing seen.

        Args:
            everything: Whether to take all tensors.
        """
        self._everything = everything
        self._quantities: set[str] = set()
        self._chosen: list[int] = []
        self._first_bits = np.empty(0)
        self._peak_bits = np.empty(0)
        self._failed_first: NDArray[np.bool_] | None = None

    def see(self, tensors: Sequence[TensorInfo], block: StepBlock) -> None:
        """Take in steps, the next ones; `tensors` may have grown at the end."""
        if not len(block):
            return
        given = _of_run(block)[1] | {name: block.present.any(axis=1) for name in _OVER_TENSORS}
        self._quantities |= {name for name, mask in given.items() if mask.any()}
        self._grow(len(tensors))
        norms = np.where(block.present, block.grad_norms, 0.0).astype(np.float64)
        is_first = not np.isfinite(self._peak_bits).any()
        self._note_levels(norms)
        self._note_failure(norms)
        if len(tensors) <= MOST_TENSORS or self._everything:
            self._chosen = list(range(len(tensors)))
        elif is_first and np.isfinite(self._peak_bits).any():
            self._admit(-self._first_bits, FIRST_TENSORS)

    def admit(self, least_bits: float = RISE_BITS) -> None:
        """Choose the tensors that have risen by so much, most first, while there is room."""
        rise = self._peak_bits - self._first_bits
        if self._failed_first is not None and not self._failed_first.all():
            rise = np.where(self._failed_first, np.inf, rise)
        with np.errstate(invalid="ignore"):
            self._admit(np.where(rise >= least_bits, -rise, np.nan), MOST_TENSORS)

    def block(
        self, tensors: Sequence[TensorInfo], block: StepBlock, weights: WeightBlock | None = None
    ) -> SeriesBlock:
        """Return the chosen series of steps that were seen.

        Args:
            tensors: The watched parameters.
            block: The steps.
            weights: Sampled norms of the weights to put beside them.
        """
        values, given = _of_run(block)
        values |= _over_tensors(block)
        given |= {name: block.present.any(axis=1) for name in _OVER_TENSORS}
        names = [name for name in (*_OF_RUN, *_OVER_TENSORS) if name in self._quantities]
        series = [Series(name) for name in names]
        columns = [values[name] for name in names]
        masks = [given[name] for name in names]
        for index in sorted(self._chosen):
            series.append(Series("grad_norm", tensors[index].name))
            columns.append(block.grad_norms[:, index].astype(np.float64))
            masks.append(block.present[:, index])
        if weights is not None and len(weights):
            place = np.minimum(np.searchsorted(weights.step, block.step), len(weights) - 1)
            is_sampled = weights.step[place] == block.step
            for index, tensor in enumerate(tensors):
                series.append(Series("weight_norm", tensor.name))
                columns.append(weights.weight_norms[place, index].astype(np.float64))
                masks.append(is_sampled & weights.present[place, index])
        shape = (len(block), len(series))
        return SeriesBlock(
            block.step,
            block.time,
            tuple(series),
            np.array(columns, np.float64).T.reshape(shape),
            np.array(masks, np.bool_).T.reshape(shape),
        )

    def _admit(self, order: NDArray[np.float64], most: int) -> None:
        """Choose by ascending `order` until there are so many; NaN is never chosen."""
        for index in np.argsort(order, kind="stable").tolist():
            if len(self._chosen) >= most or order[index] != order[index]:
                return
            if index not in self._chosen:
                self._chosen.append(index)

    def _grow(self, tensors: int) -> None:
        new = tensors - len(self._first_bits)
        self._first_bits = np.append(self._first_bits, np.full(new, np.nan))
        self._peak_bits = np.append(self._peak_bits, np.full(new, -np.inf))

    def _note_levels(self, norms: NDArray[np.float64]) -> None:
        with np.errstate(divide="ignore", invalid="ignore"):
            bits = np.where(np.isfinite(norms) & (norms > 0), np.log2(norms), np.nan)
        is_there = ~np.isnan(bits)
        first = bits[np.argmax(is_there, axis=0), np.arange(bits.shape[1])]
        self._first_bits = np.where(np.isnan(self._first_bits), first, self._first_bits)
        peaks = np.max(bits, axis=0, initial=-np.inf, where=is_there)
        self._peak_bits = np.maximum(self._peak_bits, peaks)

    def _note_failure(self, norms: NDArray[np.float64]) -> None:
        is_bad = ~np.isfinite(norms)
        if self._failed_first is None and is_bad.any():
            self._failed_first = is_bad[np.argmax(is_bad.any(axis=1))]
        if self._failed_first is not None:
            late = len(self._first_bits) - len(self._failed_first)
            self._failed_first = np.append(self._failed_first, np.zeros(late, np.bool_))


def series_blocks(
    tensors: Sequence[TensorInfo],
    block: StepBlock,
    weights: WeightBlock | None = None,
    *,
    everything: bool = False,
) -> Iterator[SeriesBlock]:
    """Yield the series of a whole record, the same ones in each block.

    Args:
        tensors: The watched parameters.
        block: All steps.
        weights: Sampled norms of the weights; used where everything is asked for.
        everything: Whether to take all tensors.
    """
    choice = Choice(everything=everything)
    pieces = range(0, len(block), _CHUNK)
    for start in pieces:
        choice.see(tensors, _piece(block, start))
    choice.admit(-np.inf)
    for start in pieces:
        yield choice.block(tensors, _piece(block, start), weights if everything else None)


def _piece(block: StepBlock, start: int) -> StepBlock:
    return StepBlock(
        **{each.name: getattr(block, each.name)[start : start + _CHUNK] for each in fields(block)}
    )


Columns = dict[str, NDArray[np.float64]]
Masks = dict[str, NDArray[np.bool_]]


def _of_run(block: StepBlock) -> tuple[Columns, Masks]:
    values = {
        "loss": block.loss,
        "lr": block.lr,
        "grad_norm": block.grad_norm,
        "clip_coefficient": block.clip_coefficient,
        "skipped": block.skipped.astype(np.float64),
    }
    given = {
        "loss": block.has_loss,
        "lr": ~np.isnan(block.lr),
        "grad_norm": block.present.any(axis=1) | ~np.isnan(block.grad_norm),
        "clip_coefficient": ~np.isnan(block.max_norm) | ~np.isnan(block.clip_coefficient),
        "skipped": np.ones(len(block), np.bool_),
    }
    return values, given


def _over_tensors(block: StepBlock) -> Columns:
    """Return largest and median norm, NaN taken for the largest, and how many are not finite."""
    # What is absent stands last, behind NaN, as NumPy sorts.
    ordered = np.sort(np.where(block.present, block.grad_norms, np.nan), axis=1)
    count = block.present.sum(axis=1)
    row = np.arange(len(block))
    last, middle = np.maximum(count - 1, 0), np.maximum(count - 1, 0) // 2
    if not ordered.shape[1]:
        ordered = np.full((len(block), 1), np.nan)
    return {
        "grad_norm_max": ordered[row, last].astype(np.float64),
        "grad_norm_median": ordered[row, middle].astype(np.float64),
        "nonfinite_tensors": np.sum(block.present & ~np.isfinite(block.grad_norms), axis=1).astype(
            np.float64
        ),
    }
