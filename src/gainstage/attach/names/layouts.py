"""How the parameters of a sharded training are laid out over its processes.

Asks no process: a DTensor knows its mesh, FSDP its group, and a stage of a pipeline its number.
"""

from __future__ import annotations

import gc
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gainstage.facts.layout import Layout, Placement
from gainstage.readable import is_distributed

_FSDP = "torch.distributed.fsdp.fully_sharded_data_parallel"
_STAGES = "torch.distributed.pipelining.stage"


def layouts_of(parameters: Sequence[Tensor]) -> dict[int, Layout]:
    """Return by id the layouts of those parameters of which this process has a part only."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return {}
    layouts: dict[int, Layout] = {}
    for parameter in parameters:
        layout = _of_dtensor(parameter)
        if layout is not None:
            layouts[id(parameter)] = layout
    wanted = {id(each) for each in parameters}
    if wanted - layouts.keys():
        layouts |= {key: each for key, each in _of_fsdp() if key in wanted}
    for key, stage in _stages():
        if key in wanted:
            layouts[key] = replace(layouts.get(key, Layout()), stage=stage)
    return layouts


def _of_dtensor(parameter: Tensor) -> Layout | None:
    """Return the layout of a DTensor's gradient, partial at times where the weight is whole."""
    if not is_distributed(parameter):
        return None
    held: Any = parameter
    if parameter.grad is not None and is_distributed(parameter.grad):
        held = parameter.grad
    mesh = held.device_mesh.mesh
    regular = _regular(mesh.flatten().tolist(), tuple(mesh.shape))
    if regular is None:
        return None
    return replace(regular, placements=tuple(map(_placement, held.placements)))


def _placement(placement: Any) -> Placement:
    if placement.is_replicate():
        return "replicate"
    return "partial" if placement.is_partial() else "shard"


def _of_fsdp() -> Iterator[tuple[int, Layout]]:
    """Yield the parameters of FSDP1 modules alive: the flat ones, and what they are made of."""
    for module in _alive(_FSDP, "FullyShardedDataParallel"):
        handle = getattr(module, "_handle", None)
        if handle is None or not handle.uses_sharded_strategy:
            continue
        ranks = torch.distributed.get_process_group_ranks(handle.process_group)
        layout = _regular(ranks, (len(ranks),))
        if layout is None:
            continue
        layout = replace(layout, placements=("shard",))
        for parameter in (handle.flat_param, *(handle.flat_param._params or ())):
            yield id(parameter), layout


def _stages() -> Iterator[tuple[int, int]]:
    for stage in _alive(_STAGES, "_PipelineStageBase"):
        for parameter in stage.submod.parameters():
            yield id(parameter), stage.stage_index


def _alive(module: str, name: str) -> Iterable[Any]:
    """Return the objects of a class of torch, where the script has imported it."""
    kind = getattr(sys.modules.get(module), name, None)
    return (
        [] if kind is None else [each for each in gc.get_objects() if issubclass(type(each), kind)]
    )


def _regular(ranks: Sequence[int], sizes: tuple[int, ...]) -> Layout | None:
    """Return a mesh as first rank and strides; None where its ranks follow no such rule."""
    strides: list[int] = []
    inner = len(ranks)
    for size in sizes:
        inner //= size
        strides.append(ranks[inner] - ranks[0] if size > 1 else 0)
    steps = (range(size) for size in sizes)
    expected = [
        ranks[0] + sum(i * stride for i, stride in zip(place, strides, strict=True))
        for place in itertools.product(*steps)
    ]
    if expected != list(ranks):
        return None
    return Layout(ranks[0], sizes, tuple(strides))
