"""A synthetic record of a long training, in the store's format and by the store's own functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gainstage.facts.blocks import StepBlock
from gainstage.facts.run_info import RunInfo
from gainstage.facts.tensor import TensorInfo
from gainstage.store.folder import claim_rank, create_run_folder, update_run_info
from gainstage.store.levels import LEVELS, BinCollector, bins_of_steps, levels_batch, levels_schema
from gainstage.store.schema import steps_batch, steps_schema
from gainstage.store.stream import Stream

_BLOCK = 1000
SPIKE_BITS = 6.0


def write_long_run(folder: Path, tensors: int, steps: int, *, seed: int = 0) -> Path:
    """Write a run that trains well, has one spike of one tensor half-way, and ends in NaN.

    Returns:
        Its folder.
    """
    started = "2026-01-01T00:00:00+00:00"
    info = RunInfo(script="train.py", argv=("train.py",), started=started)
    path = create_run_folder(folder, info)
    part = f"rank={claim_rank(path, None)}"
    infos = [
        TensorInfo(f"blocks.{i // 4}.part{i % 4}.weight", f"blocks.{i // 4}", (64, 64), "float32")
        for i in range(tensors)
    ]
    schema, level_schema = steps_schema(infos), levels_schema(infos)
    rows = Stream(path / "steps" / part)
    levels = {level: BinCollector(level) for level in LEVELS}
    streams = {level: Stream(path / "levels" / part / f"level={level}") for level in LEVELS}
    random = np.random.default_rng(seed)
    for first in range(0, steps, _BLOCK):
        block = _block(random, first, min(_BLOCK, steps - first), tensors, steps)
        rows.append(steps_batch(block, schema))
        bins = bins_of_steps(block)
        for level, gathered in levels.items():
            bins = gathered.add(bins)
            if len(bins):
                streams[level].append(levels_batch(bins, level_schema, tensors))
    for stream in (rows, *streams.values()):
        stream.close()
    update_run_info(path, ended=started, exit={"exception": None})
    return path


def _block(
    random: np.random.Generator, first: int, size: int, tensors: int, steps: int
) -> StepBlock:
    step = np.arange(first, first + size, dtype=np.int64)
    place = np.linspace(0, 4, tensors, dtype=np.float32)
    noise = random.normal(0, 0.3, (size, tensors)).astype(np.float32)
    fall = -2 * np.log2(1 + step / 1000).astype(np.float32)
    norms = np.exp2(fall[:, None] + place + noise)
    norms[step == steps // 2, tensors // 3] *= 2**SPIKE_BITS
    ended = step >= steps - 3
    norms[ended, 0] = np.nan
    grad_norm = np.sqrt(np.square(norms, dtype=np.float64).sum(axis=1))
    loss = 1 + 3 / (1 + step / 2000) + random.normal(0, 0.02, size)
    return StepBlock(
        step=step,
        time=1.8e9 + 0.1 * step,
        loss=np.where(ended, np.nan, loss),
        has_loss=np.ones(size, np.bool_),
        lr=np.full(size, 1e-3),
        grad_norm=grad_norm,
        max_norm=np.full(size, np.nan),
        clip_coefficient=np.full(size, np.nan),
        skipped=np.zeros(size, np.int64),
        grad_norms=norms,
        present=np.ones((size, tensors), np.bool_),
    )
