"""Profile through time of a recurrent layer that autograd holds as a single node.

From what the node saved, and the gradient that arrives at it, the layer's own equations give back
what a loop of small nodes would have shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gainstage.analysis.gain import levels_bits
from gainstage.analysis.rnn_cells import State, Unrolled, unroll, unroll_vjp
from gainstage.graph.levels.fused_nodes import (
    SavedLayers,
    Unsupported,
    by_position,
    read_fused,
    wide,
)

_TOLERANCE: Final = 0.05
"""How far recomputed outputs may lie from the node's: TF32 and bfloat16 round, a wrong layout is
off by the order of the outputs themselves."""


@dataclass(frozen=True, slots=True)
class DirectionStates:
    """One direction of one layer, its time steps in the order in which they were computed.

    For the reverse direction that is from the sequence's end to its start. One tensor of shape
    (batch, size) a time step; in a packed sequence the batch varies.
    """

    layer: int
    """Within the node."""
    reverse: bool
    hidden: list[Tensor]
    delta: list[Tensor]
    """Gradient of the loss with respect to the hidden state, through all later time steps."""
    cell: list[Tensor] | None = None
    """The memory of an LSTM; None for other layers."""
    cell_delta: list[Tensor] | None = None


@dataclass(frozen=True, slots=True)
class DirectionLevels:
    """Levels in bits of `DirectionStates`, of shape (time steps,)."""

    layer: int
    reverse: bool
    hidden_bits: NDArray[np.float64]
    delta_bits: NDArray[np.float64]
    cell_bits: NDArray[np.float64] | None = None
    cell_delta_bits: NDArray[np.float64] | None = None


def fused_levels(
    node: Any, grad_outputs: Sequence[Tensor | None]
) -> tuple[DirectionLevels, ...] | Unsupported:
    """Return the levels of `fused_states`."""
    states = fused_states(node, grad_outputs)
    if isinstance(states, Unsupported):
        return states
    return tuple(
        DirectionLevels(
            each.layer,
            each.reverse,
            levels_bits(each.hidden),
            levels_bits(each.delta),
            None if each.cell is None else levels_bits(each.cell),
            None if each.cell_delta is None else levels_bits(each.cell_delta),
        )
        for each in states
    )


def fused_states(
    node: Any, grad_outputs: Sequence[Tensor | None]
) -> tuple[DirectionStates, ...] | Unsupported:
    """Return states and their gradients through time, recomputed from a fused node.

    Call it in a prehook of the node. Makes no graph and draws no random number. Half precision is
    computed in float32. Waits for the device.

    Args:
        node: An autograd node of a kind that is `fused_recurrent`.
        grad_outputs: The gradients that arrive at it, as its prehook receives them.

    Returns:
        Every direction of every layer, the first layer first; or why that cannot be.
    """
    with torch.no_grad():
        saved = read_fused(node)
        if isinstance(saved, Unsupported):
            return saved
        # A hook may run inside of the script's autocast region, which would round our products.
        with torch.autocast(saved.inputs[0].device.type, enabled=False):
            runs = _forward(saved)
            error = max(run.error for run in runs[-1])
            # Not a number is what an exploded run legitimately gives: only a number can disagree.
            if error > _TOLERANCE:
                return Unsupported(
                    f"the equations of {saved.cells[0][0].kind} do not give back the outputs "
                    f"of {node.name()} (off by {error:.1e} of the largest)"
                )
            return tuple(_backward(saved, runs, grad_outputs))


def _forward(saved: SavedLayers) -> list[list[Unrolled]]:
    """Return the states by layer and direction."""
    runs: list[list[Unrolled]] = []
    inputs = saved.inputs
    for layer, cells in enumerate(saved.cells):
        last = layer == len(saved.cells) - 1
        known = _by_direction(saved.outputs, len(cells)) if last else None
        runs.append([])
        for direction, cell in enumerate(cells):
            backwards = saved.reverse[direction]
            runs[-1].append(
                unroll(
                    cell,
                    _turned(inputs, backwards),
                    _at(saved.initial, layer * len(cells) + direction),
                    None if known is None else _turned(known[direction], backwards),
                )
            )
        hidden = [
            _turned([state[0] for state in run.states], backwards)
            for run, backwards in zip(runs[-1], saved.reverse, strict=True)
        ]
        inputs = [torch.cat(parts, dim=1) for parts in zip(*hidden, strict=True)]
    return runs


def _backward(
    saved: SavedLayers, runs: list[list[Unrolled]], grad_outputs: Sequence[Tensor | None]
) -> list[DirectionStates]:
    arriving = _output_deltas(saved, grad_outputs[0])
    final = _final_deltas(saved, grad_outputs[1:])
    found: list[DirectionStates] = []
    for layer in range(len(runs) - 1, -1, -1):
        cells = saved.cells[layer]
        parts = _by_direction(arriving, len(cells))
        below: list[list[Tensor]] = []
        for direction in range(len(cells) - 1, -1, -1):
            backwards = saved.reverse[direction]
            run = runs[layer][direction]
            deltas, on_inputs = unroll_vjp(
                cells[direction],
                run.kept,
                _turned(parts[direction], backwards),
                _at(final, layer * len(cells) + direction),
                inputs=layer > 0,
            )
            below.append(_turned(on_inputs, backwards))
            found.append(_direction(layer, backwards, run.states, deltas))
        arriving = [torch.stack(each).sum(dim=0) for each in zip(*below, strict=True)]
    return found[::-1]


def _direction(
    layer: int, reverse: bool, states: list[State], deltas: list[State]
) -> DirectionStates:
    has_cell = len(states[0]) > 1
    return DirectionStates(
        layer,
        reverse,
        [state[0] for state in states],
        [delta[0] for delta in deltas],
        [state[1] for state in states] if has_cell else None,
        [delta[1] for delta in deltas] if has_cell else None,
    )


def _output_deltas(saved: SavedLayers, grad: Tensor | None) -> list[Tensor]:
    """Return what arrives at each position's output; zeros where only the last state is used."""
    if grad is None:
        return [torch.zeros_like(output) for output in saved.outputs]
    return by_position(wide(grad), saved.batch_sizes, saved.batch_first)


def _final_deltas(saved: SavedLayers, grads: Sequence[Tensor | None]) -> State:
    """Return what arrives at the last states, each of the shape of the initial one."""
    return tuple(
        torch.zeros_like(state) if grad is None else wide(grad).reshape(state.shape)
        for state, grad in zip(saved.initial, grads, strict=False)
    )


def _by_direction(steps: list[Tensor], directions: int) -> list[list[Tensor]]:
    halves = [step.chunk(directions, dim=1) for step in steps]
    return [[each[direction] for each in halves] for direction in range(directions)]


def _turned(steps: list[Tensor], reverse: bool) -> list[Tensor]:
    return steps[::-1] if reverse else steps


def _at(states: State, index: int) -> State:
    return tuple(state[index] for state in states)
