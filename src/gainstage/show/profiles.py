"""Sampled levels reduced to pictures: the gain ledger through depth, and profiles through time.

A layer is a weight into which the graph enters; one that is used many times counts once, with its
median. Arrays are base64 text of little-endian float32, so that NaN and inf stay what they are.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gainstage.detect.level.depth_gain import depth_gain, rows_of
from gainstage.detect.level.time_gain import time_gains
from gainstage.facts.blocks import (
    ProfileBlock,
    StepBlock,
    TimeBlock,
    WeightBlock,
)
from gainstage.facts.fault import Site
from gainstage.facts.tensor import TensorInfo

MOST_SAMPLES = 64
"""Sampled steps of one report: the first ones and the last, the rest evenly between them."""
MOST_TIME_VALUES = 60_000
MOST_SERIES = 12
MOST_TIME_STEPS = 500

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ledger:
    """Levels of every layer at sampled steps; NaN where one was not measured. In bits."""

    steps: NDArray[np.int64]
    layers: NDArray[np.int64]
    """Columns of the weights, in the order in which the first graph that has them runs."""
    forward: Floats
    """(steps, layers): what comes out of a layer: its own level, else the first known after it."""
    backward: Floats
    headroom: Floats
    """The least of all uses."""


def ledger(block: ProfileBlock, most: int = MOST_SAMPLES) -> Ledger:
    """Return the levels of all layers at as many sampled steps as a report shows."""
    steps = chosen(np.unique(block.step), most)
    layers = list(dict.fromkeys(block.weight[block.weight >= 0].tolist()))
    shape = (len(steps), len(layers))
    forward, backward = np.full(shape, np.nan), np.full(shape, np.nan)
    headroom = np.full(shape, np.nan)
    for row, step in enumerate(steps):
        rows = rows_of(block, block.step == step)
        out = _coming_out(rows)
        for column, layer in enumerate(layers):
            uses = rows.weight == layer
            if uses.any():
                forward[row, column] = _median(out[uses])
                backward[row, column] = _median(rows.delta_bits[uses])
                headroom[row, column] = np.min(rows.headroom_bits[uses])
    return Ledger(steps, np.array(layers, np.int64), forward, backward, headroom)


def ledger_json(levels: Ledger, tensors: Sequence[TensorInfo]) -> dict[str, Any]:
    """Return a ledger as the front end draws it, with the robust slope of each sampled step."""
    slopes = [_slopes(levels, row) for row in range(len(levels.steps))]
    return {
        "steps": levels.steps.tolist(),
        "layers": [int(each) for each in levels.layers],
        "names": [_layer_name(tensors, int(each)) for each in levels.layers],
        "forward": encoded(levels.forward),
        "backward": encoded(levels.backward),
        "headroom": encoded(levels.headroom),
        "backward_slope": [_number(back) for back, _ in slopes],
        "forward_slope": [_number(ahead) for _, ahead in slopes],
    }


def times_json(block: TimeBlock, sites: Sequence[Site]) -> dict[str, Any]:
    """Return the profiles through time steps at sampled steps, fewer of them where they are long.

    More than `MOST_TIME_STEPS` time steps are joined, the largest level kept.
    """
    per_step = max((_drawn(block, step) for step in np.unique(block.step)), default=1)
    most = max(4, min(MOST_SAMPLES, MOST_TIME_VALUES // max(1, per_step)))
    samples: list[dict[str, Any]] = []
    for step in chosen(np.unique(block.step), most):
        at = block.step == step
        series: list[dict[str, Any]] = []
        for number in np.unique(block.series[at])[:MOST_SERIES].tolist():
            rows = np.flatnonzero(at & (block.series == number))
            starts = np.arange(0, len(rows), max(1, math.ceil(len(rows) / MOST_TIME_STEPS)))
            series.append(
                {
                    "name": _series_name(block, int(rows[0]), sites),
                    "depth": bool(block.depth[rows[0]]),
                    "time_step": block.time_step[rows][starts].tolist(),
                    "hidden": encoded(np.fmax.reduceat(block.hidden_bits[rows], starts)),
                    "delta": encoded(np.fmax.reduceat(block.delta_bits[rows], starts)),
                    "slope": _number(_time_slope(block, rows)),
                }
            )
        samples.append({"step": int(step), "series": series})
    return {"samples": samples}


def ratios_json(weights: WeightBlock, block: StepBlock, most: int = MOST_SAMPLES) -> dict[str, Any]:
    """Return log2 of lr·‖g‖/‖w‖ of every tensor at sampled steps: plain SGD's update ratio.

    The gradient is taken as clipped. NaN where gradient or weight is missing; -inf for no gradient.
    """
    there = np.isin(weights.step, block.step)
    steps = chosen(np.unique(weights.step[there]), most)
    at = np.searchsorted(weights.step, steps)
    rows = np.searchsorted(block.step, steps)
    clip = np.where(np.isfinite(block.clip_coefficient[rows]), block.clip_coefficient[rows], 1.0)
    tensors = min(weights.weight_norms.shape[1], block.grad_norms.shape[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = (block.lr[rows] * clip)[:, None] * block.grad_norms[rows, :tensors].astype(float)
        ratio = np.log2(moved / weights.weight_norms[at, :tensors].astype(float))
    known = block.present[rows, :tensors] & weights.present[at, :tensors]
    return {
        "steps": steps.tolist(),
        "tensors": tensors,
        "bits": encoded(np.where(known, ratio, np.nan)),
    }


def depth_order(
    tensors: Sequence[TensorInfo], block: ProfileBlock, sites: Sequence[Site]
) -> list[int]:
    """Return the tensors in the order in which the graph meets their modules.

    One that no graph shows stays behind the one that the model holds before it.
    """
    by_weight: dict[int, int] = {}
    by_module: dict[str, int] = {}
    modules = {number: site.module for number, site in enumerate(sites) if site.module}
    for node, site, weight in zip(
        block.node.tolist(), block.site.tolist(), block.weight.tolist(), strict=True
    ):
        if weight >= 0:
            by_weight[weight] = min(node, by_weight.get(weight, node))
        module = modules.get(site)
        if module is not None:
            by_module[module] = min(node, by_module.get(module, node))
    places: list[int] = []
    for number, tensor in enumerate(tensors):
        before = places[-1] if places else -1
        place = by_module.get(tensor.module or "", by_weight.get(number, before))
        places.append(place)
    return sorted(range(len(tensors)), key=lambda number: (places[number], number))


def chosen(steps: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return at most so many of the steps: the first quarter, and the others evenly.

    Training goes wrong early more often than late, and the first steps are sampled most densely.
    """
    if len(steps) <= most:
        return steps
    first = most // 4
    rest = np.linspace(first, len(steps) - 1, most - first).round().astype(np.int64)
    return steps[np.concatenate([np.arange(first), rest])]


def encoded(values: NDArray[Any]) -> str:
    """Return numbers as base64 text of little-endian float32, row by row."""
    with np.errstate(over="ignore"):
        return base64.b64encode(values.astype("<f4").tobytes()).decode("ascii")


def _coming_out(rows: ProfileBlock) -> Floats:
    """Return by row the level of what comes out: its own, else the first known before a layer."""
    out = rows.forward_bits.astype(np.float64)
    for at in np.flatnonzero((rows.weight >= 0) & np.isnan(out)).tolist():
        for behind in range(at + 1, len(out)):
            if rows.weight[behind] >= 0 or rows.backward[behind] != rows.backward[at]:
                break
            if not np.isnan(out[behind]):
                out[at] = out[behind]
                break
    return out


def _slopes(levels: Ledger, row: int) -> tuple[float, float]:
    """Return bits a layer, of gradients on their way back and of activations ahead."""
    known = ~np.isnan(levels.backward[row]) | ~np.isnan(levels.forward[row])
    size = int(known.sum())
    nothing = np.zeros(size, np.int32)
    one_row_a_layer = ProfileBlock(
        step=np.zeros(size, np.int64),
        backward=nothing,
        node=np.arange(size, dtype=np.int32),
        site=nothing,
        weight=np.arange(size, dtype=np.int32),
        forward_bits=levels.forward[row][known].astype(np.float32),
        forward_max_bits=np.zeros(size, np.float32),
        delta_bits=levels.backward[row][known].astype(np.float32),
        delta_max_bits=np.zeros(size, np.float32),
        headroom_bits=np.zeros(size, np.float32),
    )
    gain = depth_gain(one_row_a_layer)
    return (math.nan, math.nan) if gain is None else (gain.backward_bits, gain.forward_bits)


def _time_slope(block: TimeBlock, rows: NDArray[np.intp]) -> float:
    """Return bits a time step that gradients gain on their way back along one series."""
    series = TimeBlock(*[getattr(block, name)[rows] for name in TimeBlock.__slots__])
    gain = next(time_gains(series), None)
    return math.nan if gain is None else gain.slope_bits


def _drawn(block: TimeBlock, step: int) -> int:
    """Return how many values the series of a sampled step take in a report."""
    lengths = np.unique(block.series[block.step == step], return_counts=True)[1][:MOST_SERIES]
    return 2 * int(np.minimum(lengths, MOST_TIME_STEPS).sum())


def _series_name(block: TimeBlock, row: int, sites: Sequence[Site]) -> str:
    number = int(block.site[row])
    site = sites[number] if 0 <= number < len(sites) else None
    name = "recurrence" if site is None else site.module or f"{site.op}, line {site.line}"
    layer = f" layer {block.layer[row]}" if block.layer[row] else ""
    return f"{name}{layer}{' backwards' if block.reverse[row] else ''}"


def _layer_name(tensors: Sequence[TensorInfo], column: int) -> str:
    return tensors[column].name if column < len(tensors) else f"tensor {column}"


def _median(values: NDArray[Any]) -> float:
    """Return the median of what was measured; inf counts."""
    known = values[~np.isnan(values)]
    if not len(known):
        return math.nan
    # Of -inf and inf numpy would make NaN.
    return float(np.sort(known)[len(known) // 2])


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
