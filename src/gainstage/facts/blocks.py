"""Numbers of many steps, as arrays: what detectors read and the record holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class StepBlock:
    """Consecutive optimizer steps, one array entry a step, in float64 unless said otherwise.

    NaN in `loss` is a loss that was NaN only where `has_loss`; the same holds for `grad_norms`
    with `present`. `max_norm` and `clip_coefficient` are NaN where nothing was clipped.
    """

    step: NDArray[np.int64]
    time: NDArray[np.float64]
    """Seconds since the epoch."""
    loss: NDArray[np.float64]
    has_loss: NDArray[np.bool_]
    lr: NDArray[np.float64]
    grad_norm: NDArray[np.float64]
    """2-norm of all gradients together, unscaled, before clipping; NaN where there is none."""
    max_norm: NDArray[np.float64]
    clip_coefficient: NDArray[np.float64]
    skipped: NDArray[np.int64]
    """Steps that a loss scaler left out since the row before; -1: a treatment left out this one."""
    grad_norms: NDArray[np.float32]
    """Shape (steps, tensors): the 2-norm of each gradient. inf or NaN only if an element is."""
    present: NDArray[np.bool_]
    """Shape (steps, tensors): False where the step had no gradient for the tensor."""

    def __len__(self) -> int:
        return len(self.step)


@dataclass(frozen=True, slots=True)
class WeightBlock:
    """Sampled 2-norms of the parameters themselves, read before the optimizer's step."""

    step: NDArray[np.int64]
    weight_norms: NDArray[np.float32]
    """Shape (samples, tensors); NaN where a weight holds one, inf likewise."""
    present: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.step)


@dataclass(frozen=True, slots=True)
class ProfileBlock:
    """Sampled levels of one or more steps' graphs: one entry a node, in forward order.

    Bits are log2; NaN where a level could not be measured, -inf for a tensor of zeros, inf where
    it holds an inf or NaN. Deltas are the gradients of the loss, unscaled.
    """

    step: NDArray[np.int64]
    backward: NDArray[np.int32]
    """Which backward call of the step, from 0."""
    node: NDArray[np.int32]
    """Place in the forward order of the step's graph."""
    site: NDArray[np.int32]
    """Index into the sites; -1 where the node matches none."""
    weight: NDArray[np.int32]
    """Column of the weight matrix or kernel that enters here, else -1: such a node is a layer."""
    forward_bits: NDArray[np.float32]
    """Level of what the node put out: log2 of its root mean square."""
    forward_max_bits: NDArray[np.float32]
    """log2 of its largest magnitude."""
    delta_bits: NDArray[np.float32]
    """Level of the loss's gradient with respect to what the node put out."""
    delta_max_bits: NDArray[np.float32]
    headroom_bits: NDArray[np.float32]
    """Bits that the larger of both is below its dtype's largest value, loss scale included."""

    def __len__(self) -> int:
        return len(self.step)


@dataclass(frozen=True, slots=True)
class TimeBlock:
    """Levels along recurrences of sampled graphs: one entry a state of a sequence.

    Bits as in `ProfileBlock`. A series is one state of one recurrence: of one layer, direction and
    call; those of a step are numbered from 0.
    """

    step: NDArray[np.int64]
    series: NDArray[np.int32]
    site: NDArray[np.int32]
    """Index into the sites, of the operation that makes the state; -1 where it matches none."""
    layer: NDArray[np.int32]
    """Within a fused layer's node; 0 otherwise."""
    reverse: NDArray[np.int32]
    """1 where step 0 is the sequence's end."""
    depth: NDArray[np.int32]
    """1 for a block that was applied again and again: a recurrence through depth, not time."""
    time_step: NDArray[np.int32]
    """In the order of computation."""
    hidden_bits: NDArray[np.float32]
    delta_bits: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.step)
