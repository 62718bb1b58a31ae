"""Rows as they lie in the ring into blocks of steps and of weights."""

from __future__ import annotations

import numpy as np

from gainstage.channel.row_reader import Slots
from gainstage.channel.rows import HAS_LOSS, IS_WEIGHTS
from gainstage.facts.blocks import StepBlock, WeightBlock
from gainstage.store.blocks import narrowed


def blocks_of(slots: Slots) -> tuple[StepBlock, WeightBlock]:
    """Return the steps and the samples of the weights among rows of a ring, each in order."""
    is_weights = slots.flags & IS_WEIGHTS != 0
    steps, weights = np.flatnonzero(~is_weights), np.flatnonzero(is_weights)
    time, loss, lr, grad_norm, max_norm, coefficient = slots.numbers[steps].T.copy()
    block = StepBlock(
        step=slots.step[steps],
        time=time,
        loss=loss,
        has_loss=slots.flags[steps] & HAS_LOSS != 0,
        lr=lr,
        grad_norm=grad_norm,
        max_norm=max_norm,
        clip_coefficient=coefficient,
        skipped=slots.skipped[steps],
        grad_norms=narrowed(slots.norms[steps]),
        present=slots.present[steps],
    )
    norms = narrowed(slots.norms[weights])
    return block, WeightBlock(slots.step[weights], norms, slots.present[weights])
