"""Which rank this process is, as torch.distributed or its launcher says."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True, slots=True)
class GroupPlace:
    """One process among the ranks of a training."""

    rank: int
    world_size: int
    said_by: Literal["group", "launcher"]


def place_in_group() -> GroupPlace | None:
    """Return this process's place: in the process group, or by the launcher's variables."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return GroupPlace(torch.distributed.get_rank(), torch.distributed.get_world_size(), "group")
    rank, size = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    if not rank.isdigit():
        return None
    return GroupPlace(int(rank), int(size) if size.isdigit() else int(rank) + 1, "launcher")
