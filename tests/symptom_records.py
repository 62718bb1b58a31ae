"""Records of trainings made up of arrays, healthy and sick, for whatever looks at records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gainstage.facts.blocks import ProfileBlock, StepBlock, TimeBlock, WeightBlock
from gainstage.facts.fault import Fault, FaultEvidence, Share, Site
from gainstage.facts.observation import (
    BatchNormOfFew,
    ClipAfterStep,
    ClipDuplicates,
    ClipNothing,
    ClipPartial,
    ClipScaled,
    GradientsNotZeroed,
    LogNearZero,
    Observation,
    OptimizerMade,
    OptimizerSettings,
    ParametersUnstepped,
)
from gainstage.facts.record import RankRecord
from gainstage.facts.tensor import TensorInfo

TENSORS = tuple(TensorInfo(f"{i}.weight", str(i), (16, 16), "float32") for i in range(8))
SITES = (Site("mm", "layers.0", "forward", "train.py", 7),) * 8
Series = NDArray[np.float64]
ONES = np.ones(8)


def steps(
    loss: Series,
    norms: NDArray[Any],
    *,
    lr: Series | float = 0.1,
    max_norm: float = math.nan,
    coefficient: Series | float = math.nan,
    skipped: Sequence[int] | int = 0,
) -> StepBlock:
    """Return steps from 0 on, of losses and of gradient norms by step and tensor."""
    count = len(loss)
    norms = np.asarray(norms, np.float64)
    return StepBlock(
        step=np.arange(count),
        time=1e9 + np.arange(count, dtype=np.float64),
        loss=np.asarray(loss, np.float64),
        has_loss=np.ones(count, np.bool_),
        lr=np.broadcast_to(np.float64(lr), count).copy(),
        grad_norm=np.linalg.norm(norms, axis=1),
        max_norm=np.full(count, max_norm),
        clip_coefficient=np.broadcast_to(np.float64(coefficient), count).copy(),
        skipped=np.broadcast_to(np.int64(skipped), count).copy(),
        grad_norms=norms.astype(np.float32),
        present=np.ones(norms.shape, np.bool_),
    )


def weights(at: Sequence[int], norms: NDArray[Any]) -> WeightBlock:
    """Return samples of the weights' norms, by step and tensor."""
    norms = np.asarray(norms, np.float32)
    return WeightBlock(np.array(at, np.int64), norms, np.ones(norms.shape, np.bool_))


def graph(step: int, delta: Series, forward: Series, limit: float = 128.0) -> ProfileBlock:
    """Return one sampled graph, a layer a level, with its headroom below 2^limit."""
    size = len(delta)
    zeros, index = np.zeros(size, np.int32), np.arange(size, dtype=np.int32)
    delta, forward = delta.astype(np.float32), forward.astype(np.float32)
    left = limit - np.maximum(delta, forward)
    at = np.full(size, step, np.int64)
    return ProfileBlock(
        at, zeros, index, index, index, forward, forward, delta, delta, left.astype(np.float32)
    )


def recurrence(step: int, delta: Series) -> TimeBlock:
    """Return one recurrence of a sampled graph."""
    size = len(delta)
    zeros = np.zeros(size, np.int32)
    at, order = np.full(size, step, np.int64), np.arange(size, dtype=np.int32)
    level = np.zeros(size, np.float32)
    return TimeBlock(at, zeros, zeros, zeros, zeros, zeros, order, level, delta.astype(np.float32))


def joined(blocks: Sequence[Any], kind: type[Any]) -> Any:
    """Return blocks as one; of none an empty one."""
    if not blocks:
        empty = recurrence(0, np.zeros(1)) if kind is TimeBlock else graph(0, *[np.zeros(1)] * 2)
        return kind(*[getattr(empty, each.name)[:0] for each in fields(kind)])
    return kind(*[np.concatenate([getattr(b, each.name) for b in blocks]) for each in fields(kind)])


def record(
    block: StepBlock,
    *,
    weight_block: WeightBlock | None = None,
    graphs: Sequence[ProfileBlock] = (),
    times: Sequence[TimeBlock] = (),
    faults: Sequence[Fault] = (),
    observations: Sequence[Observation[Any]] = (),
    tensors: Sequence[TensorInfo] = TENSORS,
) -> RankRecord:
    """Return the record of a run."""
    return RankRecord(
        tensors=tuple(tensors),
        block=block,
        weights=weight_block or weights([], np.zeros((0, len(tensors)))),
        profiles=joined(graphs, ProfileBlock),
        times=joined(times, TimeBlock),
        sites=SITES,
        faults=tuple(faults),
        observations=tuple(observations),
    )


HEALTHY = ("noise", "warm-up", "constant", "scaler search", "clip on a tenth", "converges", "gan")


def healthy(shape: str, seed: int, count: int = 320) -> RankRecord:
    """Return the record of a healthy training: flat graphs, weights that settle, SGD."""
    random = np.random.default_rng(seed)
    t = np.arange(count)
    loss = 3 * np.exp(-t / 80) + 0.5 + 0.05 * random.normal(size=count)
    norms = np.exp(0.3 * random.normal(size=(count, 8)))
    lr, given = np.full(count, 0.01), dict[str, Any]()
    match shape:
        case "warm-up":
            lr *= np.minimum(1, (t + 1) / 100)
            norms *= np.minimum(1, (t + 1) / 50)[:, None]
        case "constant":
            loss, norms = np.full(count, 1.0), np.ones((count, 8))
        case "scaler search":
            given["skipped"] = np.where(t == 0, 9, np.where(t % 200 == 199, 1, 0))
        case "clip on a tenth":
            given["max_norm"] = 1.0
            given["coefficient"] = np.where(random.random(count) < 0.1, 0.5, 1.0)
        case "converges":
            loss, norms = 3 * 10.0 ** (-t / 60) + 1e-9, norms * 10.0 ** (-t / 40)[:, None]
        case _:
            pass
    block = steps(loss, norms, lr=lr, **given)
    if shape == "gan":
        own = (np.arange(8) % 2 == t[:, None] % 2) & np.ones((count, 8), np.bool_)
        totals = np.sqrt((np.where(own, norms, 0) ** 2).sum(axis=1))
        block = replace(block, present=own, grad_norm=totals)
    at = list(range(0, count, 10))
    sizes = 4 + (1 - np.exp(-np.array(at) / 100))[:, None] * np.linspace(0.1, 1, 8)
    flat = [random.normal(0, 0.2, 8) for _ in at]
    return record(
        block,
        weight_block=weights(at, sizes),
        graphs=[graph(step, level, level) for step, level in zip(at, flat, strict=True)],
        times=[recurrence(step, random.normal(0, 0.2, 40)) for step in at],
        observations=[SGD],
    )


SGD = Observation(
    OptimizerMade(class_name="SGD", settings=OptimizerSettings(lr=0.1, momentum=0.0)), 0
)
ADAM = Observation(
    OptimizerMade(class_name="Adam", settings=OptimizerSettings(lr=1.0, betas=(0.9, 0.999))), 0
)


def sick() -> dict[str, RankRecord]:
    """Return records of sick trainings: together they show every symptom in each of its forms."""
    t = np.arange(240)
    fine, flat = 2 * np.exp(-t / 60) + 0.5, np.ones((240, 8))
    growth = 2.0 ** np.maximum(t - 60, 0.0)[:, None].clip(max=120)
    rising = 2.0 ** (np.maximum(t - 60, 0) / 8)
    one = np.array([1e-5] * 7 + [1.0])
    dead = np.where(t[:, None] < 60, 1.0, 0.0) * np.ones(8)
    bad = np.where(t < 200, fine, math.nan)
    spike = 2.0 ** (9 * np.exp(-(((t - 100) / 5) ** 2)))[:, None]
    climb = 0.01 * np.where(t < 120, 1.0, 1.3 ** np.minimum(np.maximum(t - 120, 0), 30))
    fall = np.where(t < 20, 1.0, 1.0 - np.exp(t / 20.0))
    at = list(range(0, 240, 4))
    infinite = flat.copy()
    infinite[150, 2], infinite[151, 3] = math.inf, math.nan
    climbing = {step: 98.0 + 0.2 * step for step in (1, 2, 4, 8, 16, 30, 60, 90, 120, 140)}
    shrinking = {step: 0.15 * step for step in range(30, 150, 12)}
    update = FaultEvidence(reason="update", share=Share(2, 4), second_moment="exp_avg_sq")
    return {
        "grows": record(
            steps(fine + rising, flat * growth),
            weight_block=weights(at, np.ones((60, 8)) * 2.0 ** (np.array(at)[:, None] / 12 + 3)),
        ),
        "grows slowly": record(steps(fine, flat * rising[:, None])),
        "nan": record(steps(bad, np.where(np.isnan(bad), np.nan, 1.0)[:, None] * flat)),
        "infinite gradient": record(steps(fine, infinite)),
        "left out": record(steps(fine, infinite, skipped=np.where((t == 150) | (t == 151), -1, 0))),
        "enormous": record(
            steps(fine, flat * 2.0**40), weight_block=weights([1], np.full((1, 8), 4.0))
        ),
        "enormous, weights unknown": record(steps(fine, flat * 2.0**40)),
        "high": record(steps(fine, flat * np.where(t < 60, 1.0, 200.0)[:, None])),
        "spike": record(steps(fine, flat * spike)),
        "silent": record(steps(np.where(t < 60, fine, 2.6), dead)),
        "deep": record(steps(fine, flat * 2.0 ** (4.0 * np.arange(8)))),
        "one rules": record(steps(fine, flat * one, max_norm=1.0, coefficient=0.7)),
        "clipped": record(steps(fine * 0 + 2.3, flat, max_norm=1e-5, coefficient=1e-5)),
        "idle clip": record(steps(np.ones(300), np.ones((300, 8)), max_norm=1e4, coefficient=1.0)),
        "scaler": record(steps(fine, flat, skipped=np.where(t % 3 == 1, 1, 0))),
        "treated": record(steps(fine, flat, skipped=np.where(t > 200, -1, 0))),
        "rate": record(steps(fine, flat, lr=climb)),
        "adam": record(
            steps(fine, flat, lr=1.0),
            weight_block=weights(at, np.ones((60, 8))),
            observations=[ADAM],
        ),
        "jump": record(
            steps(np.where(t < 120, fine, 1e6), flat * np.where(t < 120, 0.01, 1e5)[:, None]),
            weight_block=weights(at, np.full((60, 8), 4.0)),
        ),
        "unlearnt": record(
            steps(np.where(t < 100, fine, 4.0), flat * np.where(t < 100, 1.0, 8.0)[:, None])
        ),
        "unbounded": record(steps(fall, flat * 2.0 ** (t / 40)[:, None])),
        "weights doubled": record(
            steps(fine, flat),
            weight_block=weights(at, np.where(np.array(at) < 80, 30.0, 90.0)[:, None] * np.ones(8)),
        ),
        "weights pushed": record(
            steps(fine, flat * 1e-3, lr=1e-3),
            weight_block=weights(
                at, 4.0 * 1.03 ** np.maximum(np.array(at) - 40, 0)[:, None] * np.ones(8)
            ),
            observations=[SGD],
        ),
        "graphs": record(
            steps(fine, flat),
            graphs=[
                graph(4, 3.0 * np.arange(8)[::-1], np.zeros(8)),
                graph(8, np.zeros(8), 3.0 * np.arange(8)),
            ],
            times=[recurrence(4, 0.6 * np.arange(60)[::-1]), recurrence(8, np.zeros(60))],
        ),
        "levels": record(
            steps(fine, flat),
            graphs=[
                graph(step, np.zeros(1), np.full(1, level)) for step, level in climbing.items()
            ],
        ),
        "near": record(
            steps(fine, flat),
            graphs=[graph(3, np.zeros(2), np.array([15.5, 3.0]), math.log2(65504))],
        ),
        "observed": record(
            steps(fine, flat),
            faults=[
                Fault(3, "update", "optimizer", Site("addcdiv"), update, parameter="w"),
                Fault(5, "domain", "loss", Site("log"), FaultEvidence(no_backward=True)),
            ],
            observations=[
                Observation(BatchNormOfFew(values=2, batch=2), 0, "train.py", 9),
                Observation(ParametersUnstepped(tensors=2, of=8, names=("a", "b")), 8),
                *(
                    Observation(LogNearZero(bits=bits, limit_bits=24.0), step, "train.py", 20)
                    for step, bits in shrinking.items()
                ),
            ],
        ),
        **{
            f"norm {i}": record(
                steps(fine, flat), observations=[Observation(each, 1, "train.py", 5)]
            )
            for i, each in enumerate(
                (
                    ClipScaled(parameters=8, ratio=65536.0),
                    ClipAfterStep(parameters=8, acts=True),
                    ClipNothing(stepped=8),
                    ClipDuplicates(parameters=9, ratio=1.4),
                    ClipPartial(parameters=3, stepped=8),
                    GradientsNotZeroed(tensors=8, of=8, times=2),
                )
            )
        },
    }
