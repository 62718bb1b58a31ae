"""Runs written by the store itself, without a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gainstage.facts.blocks import ProfileBlock, TimeBlock
from gainstage.facts.fault import Site
from gainstage.facts.run_info import RunInfo
from gainstage.facts.tensor import TensorInfo
from gainstage.store.folder import claim_rank, create_run_folder
from gainstage.store.sites import write_sites
from row_recorder import RowRecorder


def levels(step: int, weight: list[int], forward: list[float], delta: list[float]) -> ProfileBlock:
    """Return one sampled graph, a node a weight; -1 for a node without one."""
    size = len(weight)
    zeros = np.zeros(size, np.int32)
    bits = np.array(forward, np.float32)
    return ProfileBlock(
        step=np.full(size, step, np.int64),
        backward=zeros,
        node=np.arange(size, dtype=np.int32),
        site=np.arange(size, dtype=np.int32),
        weight=np.array(weight, np.int32),
        forward_bits=bits,
        forward_max_bits=bits,
        delta_bits=np.array(delta, np.float32),
        delta_max_bits=np.array(delta, np.float32),
        headroom_bits=np.float32(128) - bits,
    )


def along_time(step: int, delta: list[list[float]]) -> TimeBlock:
    """Return series of one sampled graph, the states' levels 0."""
    lengths = [len(each) for each in delta]
    size = sum(lengths)
    zeros = np.zeros(size, np.int32)
    return TimeBlock(
        step=np.full(size, step, np.int64),
        series=np.repeat(np.arange(len(delta), dtype=np.int32), lengths),
        site=zeros,
        layer=zeros,
        reverse=zeros,
        depth=zeros,
        time_step=np.concatenate([np.arange(n) for n in lengths]).astype(np.int32),
        hidden_bits=np.zeros(size, np.float32),
        delta_bits=np.concatenate(delta).astype(np.float32),
    )


def large_run(folder: Path, tensors: int, steps: int, samples: int) -> Path:
    """Write a healthy run of many tensors and steps, sampled often, with long recurrences."""
    path = create_run_folder(folder, RunInfo(script="train.py", argv=("train.py",)))
    infos = [
        TensorInfo(
            f"model.encoder.layers.{i}.attention.weight",
            f"model.encoder.layers.{i}",
            (8, 8),
            "float32",
        )
        for i in range(tensors)
    ]
    writer = RowRecorder(path, claim_rank(path, None), infos, warn=print)
    random = np.random.default_rng(0)
    norms = np.exp(random.normal(0, 0.2, (steps, tensors))).tolist()
    losses = np.exp(random.normal(0, 0.1, steps)).tolist()
    every = max(1, steps // samples)
    for step in range(steps):
        total = float(np.sqrt(tensors))
        writer.append((step, 1e9 + step, losses[step], 1e-3, total, None, None, 0, norms[step]))
        if step % every == 0:
            flat = random.normal(0, 1, tensors).tolist()
            profile = levels(step, list(range(tensors)), flat, flat)
            times = along_time(step, [random.normal(0, 1, 120).tolist()] * 4)
            writer.append_profile(lambda p=profile, t=times: (p, t))
            writer.append_weights(step, norms[step])
        if step % 500 == 0:
            writer.flush()
    writer.close()
    write_sites(
        path, 0, [Site("mm", each.module, "f", None, i) for i, each in enumerate(infos)], []
    )
    return path
