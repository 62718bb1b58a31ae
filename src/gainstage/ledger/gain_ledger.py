"""The gain ledger, made of a record of a few steps and what was read beside it.

Slopes are those of `depth-gain` and `time-gain`; a trouble is a symptom worse than a note, a
learning rate that the loss cannot bear, or batch statistics of fewer than eight values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from gainstage.bits import LARGEST
from gainstage.detect import scan
from gainstage.detect.level.depth_gain import depth_gain, rows_of
from gainstage.detect.level.time_gain import time_gains
from gainstage.detect.symptom_json import message_of
from gainstage.facts.blocks import ProfileBlock, TimeBlock
from gainstage.facts.fault import Site
from gainstage.facts.record import RankRecord
from gainstage.facts.tensor import TensorInfo
from gainstage.ledger.gain_data import (
    CheckReadings,
    DepthLimit,
    GainLedger,
    InitialWeight,
    LayerGain,
    NormBatch,
    RecurrentGain,
    Sharpness,
    Way,
)

FORMATS = ("float32", "bfloat16", "float16")
FEWEST_VALUES = 8
"""Of a batch norm's statistics (docs/lab.md, `gainstage lab norm`)."""
_CATAPULT = 2.0
"""Times the stable learning rate up to which a loss may leap and settle (Lewkowycz et al. 2020)."""


def gain_ledger(record: RankRecord, readings: CheckReadings) -> GainLedger:
    """Return the ledger of the last step that was sampled.

    Args:
        record: Of the process that trained.
        readings: Of its live tensors.
    """
    profile = last_graph(record.profiles)
    initial = {each.name: each for each in readings.weights}
    layers = layers_of(profile, record.tensors, record.sites, initial)
    gain = depth_gain(profile)
    forward, backward = (
        (math.nan, math.nan) if gain is None else (gain.forward_bits, gain.backward_bits)
    )
    in_order = [each.initial for each in layers if each.initial is not None]
    rest = [each for each in readings.weights if each not in in_order]
    norms = tuple(_placed(readings.norms, profile, record.sites))
    symptoms = scan.symptoms_of(record)
    losses = record.block.loss[record.block.has_loss]
    return GainLedger(
        steps=len(record.block),
        loss=float(losses[-1]) if len(losses) else None,
        layers=layers,
        forward_slope_bits=forward,
        backward_slope_bits=backward,
        limits=tuple(depth_limit(layers, forward, backward, dtype) for dtype in FORMATS),
        recurrences=tuple(_recurrences(record.times, profile, record.sites)),
        weights=(*in_order, *rest),
        norms=norms,
        sharpness=readings.sharpness,
        symptoms=symptoms,
        troubles=(
            *(message_of(each) for each in symptoms if each.severity != "info"),
            *_sharpness_troubles(readings.sharpness),
            *_norm_troubles(norms),
        ),
    )


def last_graph(block: ProfileBlock) -> ProfileBlock:
    """Return the rows of the sampled graph with most layers among those of the last step."""
    if not len(block):
        return block
    last = block.step == block.step[-1]
    layers = {
        int(call): len(np.unique(block.weight[last & (block.backward == call)]))
        for call in np.unique(block.backward[last])
    }
    most = max(layers, key=lambda call: (layers[call], -call))
    return rows_of(block, last & (block.backward == most))


def layers_of(
    profile: ProfileBlock,
    tensors: Sequence[TensorInfo],
    sites: Sequence[Site],
    initial: dict[str, InitialWeight],
) -> tuple[LayerGain, ...]:
    """Return the layers of one graph in forward order, each weight once."""
    order = [each for each in dict.fromkeys(profile.weight.tolist()) if each >= 0]
    found: list[LayerGain] = []
    levels = [_levels(profile, each) for each in order]
    for place, weight in enumerate(order):
        rows = np.flatnonzero(profile.weight == weight)
        forward, forward_max, delta, delta_max = levels[place]
        before = levels[place - 1][0] if place else math.nan
        after = levels[place + 1][2] if place + 1 < len(levels) else math.nan
        site = int(profile.site[rows[0]])
        name = tensors[weight].name if weight < len(tensors) else f"weight {weight}"
        found.append(
            LayerGain(
                name=name,
                op=sites[site].op if 0 <= site < len(sites) else None,
                uses=len(rows),
                forward_bits=forward,
                forward_max_bits=forward_max,
                forward_gain_bits=_difference(forward, before),
                delta_bits=delta,
                delta_max_bits=delta_max,
                backward_gain_bits=_difference(delta, after),
                initial=initial.get(name),
            )
        )
    return tuple(found)


def depth_limit(
    layers: Sequence[LayerGain], forward: float, backward: float, dtype: str
) -> DepthLimit:
    """Return at how many layers a number format overflows, at slopes in bits a layer.

    Where a level is beyond the format already, the layer is named; else the slopes are followed
    from the largest level there is.
    """
    limit = math.log2(LARGEST[dtype])
    best = DepthLimit(dtype, None, math.inf, None)
    ways: list[tuple[Way, float, list[tuple[str, float]]]] = [
        ("forward", forward, [(each.name, each.forward_max_bits) for each in layers]),
        ("backward", backward, [(each.name, each.delta_max_bits) for each in reversed(layers)]),
    ]
    for way, slope, levels in ways:
        over = next((i for i, (_, level) in enumerate(levels) if level > limit), None)
        known = [level for _, level in levels if math.isfinite(level)]
        if over is not None:
            found = DepthLimit(dtype, way, over + 1.0, levels[over][0])
        elif slope > 0 and known:
            left = math.ceil((limit - max(known)) / slope)
            found = DepthLimit(dtype, way, float(len(levels) + left), None)
        else:
            continue
        if (found.layer is None, found.layers) < (best.layer is None, best.layers):
            best = found
    return best


def _levels(profile: ProfileBlock, weight: int) -> tuple[float, float, float, float]:
    rows = profile.weight == weight
    return (
        _middle(profile.forward_bits[rows].tolist()),
        _largest(profile.forward_max_bits[rows].tolist()),
        _middle(profile.delta_bits[rows].tolist()),
        _largest(profile.delta_max_bits[rows].tolist()),
    )


def _middle(values: Sequence[float]) -> float:
    """Return the median; an infinite level stays one."""
    known = sorted(each for each in values if each == each)
    return known[len(known) // 2] if known else math.nan


def _largest(values: Sequence[float]) -> float:
    return max((each for each in values if each == each), default=math.nan)


def _difference(level: float, other: float) -> float:
    return level - other if math.isfinite(level) and math.isfinite(other) else math.nan


def _recurrences(
    times: TimeBlock, profile: ProfileBlock, sites: Sequence[Site]
) -> Iterator[RecurrentGain]:
    step = int(profile.step[0]) if len(profile) else -1
    for gain in time_gains(times):
        if gain.step != step:
            continue
        room = {dtype: math.log2(LARGEST[dtype]) - gain.largest_bits for dtype in FORMATS}
        yield RecurrentGain(
            module=sites[gain.site].module if 0 <= gain.site < len(sites) else None,
            layer=gain.layer,
            time_steps=gain.time_steps,
            slope_bits=gain.slope_bits,
            time_steps_to_overflow={
                dtype: max(0.0, gain.time_steps + left / gain.slope_bits)
                if gain.slope_bits > 0
                else math.inf
                for dtype, left in room.items()
            },
            memory_horizon=gain.memory_horizon,
        )


def _placed(
    norms: Sequence[NormBatch], profile: ProfileBlock, sites: Sequence[Site]
) -> Iterator[NormBatch]:
    """Yield batch norms with the modules that their nodes' sites name."""
    site_at = dict(zip(profile.node.tolist(), profile.site.tolist(), strict=True))
    for norm in norms:
        site = site_at.get(norm.node, -1)
        module = sites[site].module if 0 <= site < len(sites) else norm.module
        yield NormBatch(module, norm.batch, norm.values, norm.node)


def _sharpness_troubles(sharpness: Sharpness) -> Iterator[str]:
    lr, limit = sharpness.lr, sharpness.max_stable_lr
    if lr is None or limit is None or not sharpness.is_judged or lr <= _CATAPULT * limit:
        return
    yield (
        f"learning rate {lr:.2g} is {lr / limit:.1f} times what {sharpness.optimizer} bears at "
        f"this sharpness, {limit:.2g}"
    )


def _norm_troubles(norms: Sequence[NormBatch]) -> Iterator[str]:
    few = [each for each in norms if each.values < FEWEST_VALUES]
    if few:
        smallest = min(few, key=lambda each: each.values)
        more = f" and {len(few) - 1} more" if len(few) > 1 else ""
        yield (
            f"batch norm {smallest.module or ''}{more}: statistics of only {smallest.values} "
            f"values; use layer norm below {FEWEST_VALUES}"
        )
