"""How the processes of a training hold a tensor together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Placement = Literal["shard", "replicate", "partial"]
"""Along one dimension of a mesh: each process has a piece, or all of it, or a summand of it."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the processes of a mesh hold one tensor, as one of them sees it.

    The mesh's ranks are `first` plus, for each dimension, a multiple of its stride, as many as its
    size.
    """

    first: int = 0
    sizes: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    placements: tuple[Placement, ...] = ()
    """One for each dimension of the mesh."""
    stage: int | None = None
    """Of a pipeline, where one has the tensor: other stages have others."""
