"""The record of a run that explodes, written by the store itself, without a training."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from gainstage.facts.blocks import ProfileBlock, TimeBlock
from gainstage.facts.fault import Site
from gainstage.facts.run_info import RunInfo
from gainstage.facts.tensor import TensorInfo
from gainstage.store.folder import claim_rank, create_run_folder
from gainstage.store.sites import write_sites
from row_recorder import RowRecorder

FAILS = 50
STEPS = 60


def exploding_run(folder: Path, tensors: int = 3, *, ranks: int = 1) -> Path:
    """Write 60 steps: the last tensor grows by half a bit a step; at 50 it is inf, then all NaN.

    The first tensor has no gradient in step 5. The gradients are clipped at 1 from step 10 on.
    """
    path = create_run_folder(folder, RunInfo(script="train.py", argv=("train.py",)))
    for rank in range(ranks):
        _write_rank(path, rank, tensors)
    return path


def norms_at(step: int, tensors: int) -> list[float | None]:
    """Return what the record holds of a step."""
    if step > FAILS:
        return [math.nan] * tensors
    last = math.inf if step == FAILS else 2.0 ** (step / 2)
    norms: list[float | None] = [1.0 + index / 8 for index in range(tensors - 1)]
    if step == 5:
        norms[0] = None
    return [*norms, last]


def _write_rank(path: Path, rank: int, tensors: int) -> None:
    infos = [
        TensorInfo(f"layers.{i}.weight", f"layers.{i}", (4, 2), "float32") for i in range(tensors)
    ]
    writer = RowRecorder(path, claim_rank(path, rank), infos, warn=print)
    for step in range(STEPS):
        norms = norms_at(step, tensors)
        total = math.sqrt(sum(each * each for each in norms if each is not None))
        loss = 2.0 if step < FAILS else math.nan
        clip = (1.0, min(1.0, 1 / total) if total == total else math.nan)
        row = (*(clip if step >= 10 else (None, None)), -1 if step == 20 else 0, norms)
        writer.append((step, 1e9 + step, loss, 0.1, total, *row))
        if step % 10 == 0:
            writer.append_weights(step, [1.0] * tensors)
        if step == 30:
            writer.flush()
    writer.append_profile(lambda: (_profile(), _times()))
    writer.close()
    write_sites(path, rank, [Site("mm", "layers.0", "forward", "train.py", 7)], [[0, -1]])


def _profile() -> ProfileBlock:
    zeros = np.zeros(2, np.int32)
    bits = np.array([1, -np.inf], np.float32)
    return ProfileBlock(
        step=np.zeros(2, np.int64),
        backward=zeros,
        node=np.array([0, 1], np.int32),
        site=np.array([0, -1], np.int32),
        weight=np.array([1, -1], np.int32),
        forward_bits=bits,
        forward_max_bits=bits,
        delta_bits=bits,
        delta_max_bits=bits,
        headroom_bits=np.float32(128) - bits,
    )


def _times() -> TimeBlock:
    zeros = np.zeros(3, np.int32)
    return TimeBlock(
        step=np.zeros(3, np.int64),
        series=zeros,
        site=zeros,
        layer=zeros,
        reverse=zeros,
        depth=zeros,
        time_step=np.arange(3, dtype=np.int32),
        hidden_bits=np.zeros(3, np.float32),
        delta_bits=np.zeros(3, np.float32),
    )
