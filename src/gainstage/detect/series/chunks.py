"""A record in pieces of 16 steps, however it arrives, for what is judged over all tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from gainstage.detect.series.history import CHUNK
from gainstage.facts.blocks import StepBlock


@dataclass(slots=True)
class Chunks:
    """Online state: the steps that do not fill a piece yet."""

    held: StepBlock | None = None


def pieces(state: Chunks, block: StepBlock) -> Iterator[StepBlock]:
    """Yield the pieces of 16 steps that are complete with `block`, and hold the rest."""
    if not len(block):
        return
    whole = block if state.held is None else _joined(state.held, block)
    complete = len(whole) // CHUNK * CHUNK
    state.held = cut(whole, complete, len(whole)) if complete < len(whole) else None
    for start in range(0, complete, CHUNK):
        yield cut(whole, start, start + CHUNK)


def cut(block: StepBlock, start: int, stop: int) -> StepBlock:
    """Return the steps from `start` to before `stop`, over the same memory."""
    return StepBlock(**{each.name: getattr(block, each.name)[start:stop] for each in fields(block)})


def _joined(first: StepBlock, second: StepBlock) -> StepBlock:
    """Return two blocks as one; tensors that came with the second have no gradient in the first."""
    new = second.present.shape[1] - first.present.shape[1]
    columns: dict[str, Any] = {}
    for each in fields(first):
        one, other = getattr(first, each.name), getattr(second, each.name)
        if one.ndim == 2 and new > 0:
            one = np.pad(one, ((0, 0), (0, new)))
        columns[each.name] = np.concatenate([one, other])
    return StepBlock(**columns)
