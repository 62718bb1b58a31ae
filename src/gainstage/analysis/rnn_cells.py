"""The equations of torch's recurrent layers, forward and backward, one time step after another.

Written out, so that neither autograd nor a generator of random numbers is touched: they may be
evaluated in the middle of a run's own backward pass. Source: the documentation of `torch.nn.RNN`,
`GRU` and `LSTM`; gates lie in the order (r, z, n) and (i, f, g, o), as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import linear

CellKind = Literal["rnn_relu", "rnn_tanh", "lstm", "gru"]
State = tuple[Tensor, ...]
"""(hidden,) or, for an LSTM, (hidden, cell); each of shape (batch, size)."""


@dataclass(frozen=True, slots=True)
class CellWeights:
    """One direction of one layer."""

    kind: CellKind
    w_ih: Tensor
    """Shape (gates * size, inputs)."""
    w_hh: Tensor
    """Shape (gates * size, hidden)."""
    b_ih: Tensor | None = None
    b_hh: Tensor | None = None
    w_hr: Tensor | None = None
    """Shape (proj_size, size): the projection of an LSTM's output."""


@dataclass(frozen=True, slots=True)
class Unrolled:
    """A layer's states in the order in which it computed them."""

    states: list[State]
    kept: list[State]
    """What the backward equations need of each time step."""
    error: float
    """Largest difference from the given outputs, relative to the largest of them; 0 without."""


def cell_step(cell: CellWeights, x: Tensor, state: State) -> tuple[State, State]:
    """Return the state after one time step, and what `cell_step_vjp` needs to go back.

    Differentiable, so that it serves `state_jacobian` as well.

    Args:
        cell: The layer's weights.
        x: Input of shape (batch, inputs).
        state: The state before.
    """
    inputs, recurrent = linear(x, cell.w_ih, cell.b_ih), linear(state[0], cell.w_hh, cell.b_hh)
    return _advance(cell, inputs, recurrent, state)


def _advance(
    cell: CellWeights, inputs: Tensor, recurrent: Tensor, state: State
) -> tuple[State, State]:
    if cell.kind == "lstm":
        return _lstm_step(cell, inputs + recurrent, state)
    if cell.kind == "gru":
        return _gru_step(inputs, recurrent, state)
    hidden = inputs + recurrent
    hidden = hidden.tanh() if cell.kind == "rnn_tanh" else hidden.relu()
    return (hidden,), (hidden,)


def cell_step_vjp(cell: CellWeights, kept: State, delta: State) -> tuple[State, State, Tensor]:
    """Take the gradient of one time step's state back to the state before it and to its gates.

    Args:
        cell: The layer's weights.
        kept: From `cell_step`.
        delta: Gradient of the hidden state; for an LSTM also that of the cell state, without what
            reaches it through the hidden state.

    Returns:
        The whole gradient of the state, that of the state before it, and that of the product of
        input and `w_ih`.
    """
    if cell.kind == "lstm":
        return _lstm_vjp(cell, kept, delta)
    (hidden_delta,) = delta
    if cell.kind == "gru":
        before, on_inputs = _gru_vjp(cell, kept, hidden_delta)
    else:
        (hidden,) = kept
        slope = 1 - hidden.square() if cell.kind == "rnn_tanh" else (hidden > 0).to(hidden.dtype)
        on_inputs = hidden_delta * slope
        before = on_inputs @ cell.w_hh
    return delta, (before,), on_inputs


def unroll(
    cell: CellWeights,
    inputs: Sequence[Tensor],
    initial: State,
    outputs: Sequence[Tensor] | None = None,
) -> Unrolled:
    """Compute a layer's states from its inputs.

    Args:
        cell: The layer's weights.
        inputs: One tensor of shape (batch, inputs) a time step, in the order of computation. The
            batch may shrink or grow, as in a packed sequence; its rows keep their places.
        initial: State before the first time step, for the largest batch.
        outputs: The hidden states that the run itself computed, if known. Each time step then
            starts from the run's own state, so that a chaotic layer is not left by rounding.
    """
    sizes = [len(x) for x in inputs]
    # What does not wait for the step before is one product for all time steps.
    on_inputs = linear(torch.cat(list(inputs)), cell.w_ih, cell.b_ih).split(sizes)
    state = tuple(part[: sizes[0]] for part in initial)
    on_hidden = None if outputs is None else _recurrent_products(cell, outputs, state[0], initial)
    states: list[State] = []
    kept: list[State] = []
    errors: list[Tensor] = []
    for time_step, on_input in enumerate(on_inputs):
        state = _resized(state, initial, len(on_input))
        recurrent = (
            linear(state[0], cell.w_hh, cell.b_hh) if on_hidden is None else on_hidden[time_step]
        )
        state, keep = _advance(cell, on_input, recurrent, state)
        if outputs is not None:
            errors.append((state[0] - outputs[time_step]).abs().amax())
            state = (outputs[time_step], *state[1:])
        states.append(state)
        kept.append(keep)
    if outputs is None:
        return Unrolled(states, kept, 0.0)
    error = float(torch.stack(errors).amax())
    largest = float(torch.cat(list(outputs)).abs().amax())
    return Unrolled(states, kept, error / largest if largest > 0 else error)


def _recurrent_products(
    cell: CellWeights, outputs: Sequence[Tensor], first: Tensor, initial: State
) -> tuple[Tensor, ...]:
    """Return the product of `w_hh` and the state before each time step."""
    before = [first]
    for output, after in pairwise(outputs):
        before.extend(_resized((output,), initial[:1], len(after)))
    products = linear(torch.cat(before), cell.w_hh, cell.b_hh)
    return products.split([len(each) for each in before])


def unroll_vjp(
    cell: CellWeights,
    kept: Sequence[State],
    output_deltas: Sequence[Tensor],
    final_delta: State,
    *,
    inputs: bool = True,
) -> tuple[list[State], list[Tensor]]:
    """Take the gradients that arrive at a layer back through time.

    Args:
        cell: The layer's weights.
        kept: From `unroll`.
        output_deltas: Gradient that arrives at the output of each time step, in their order.
        final_delta: Gradient of the state that each sequence ends with, for the largest batch.
        inputs: Whether the gradients of the inputs are wanted.

    Returns:
        The whole gradient of each time step's state (also through all later time steps), and that
        of each input (or nothing), both in the order of `kept`.
    """
    carried = tuple(part[: len(output_deltas[-1])] for part in final_delta)
    deltas: list[State] = []
    gates: list[Tensor] = []
    for keep, arriving in zip(reversed(kept), reversed(output_deltas), strict=True):
        carried = _resized(carried, final_delta, len(arriving))
        delta, carried, on_gates = cell_step_vjp(cell, keep, (carried[0] + arriving, *carried[1:]))
        deltas.append(delta)
        gates.append(on_gates)
    deltas.reverse()
    if not inputs:
        return deltas, []
    gates.reverse()
    return deltas, list((torch.cat(gates) @ cell.w_ih).split([len(each) for each in gates]))


def _resized(state: State, source: State, batch: int) -> State:
    """Return the state with rows cut off, or with rows of `source` joined on."""
    rows = len(state[0])
    if batch <= rows:
        return tuple(part[:batch] for part in state)
    return tuple(
        torch.cat([part, more[rows:batch]]) for part, more in zip(state, source, strict=True)
    )


def _lstm_step(cell: CellWeights, gates: Tensor, state: State) -> tuple[State, State]:
    before = state[1]
    in_gate, forget, new, out = gates.chunk(4, dim=1)
    in_gate, forget, new, out = in_gate.sigmoid(), forget.sigmoid(), new.tanh(), out.sigmoid()
    memory = forget * before + in_gate * new
    squashed = memory.tanh()
    hidden = out * squashed
    if cell.w_hr is not None:
        hidden = hidden @ cell.w_hr.t()
    return (hidden, memory), (before, in_gate, forget, new, out, squashed)


def _lstm_vjp(cell: CellWeights, kept: State, delta: State) -> tuple[State, State, Tensor]:
    before, in_gate, forget, new, out, squashed = kept
    hidden_delta, memory_delta = delta
    unprojected = hidden_delta if cell.w_hr is None else hidden_delta @ cell.w_hr
    memory_delta = memory_delta + unprojected * out * (1 - squashed.square())
    gates = torch.cat(
        [
            memory_delta * new * in_gate * (1 - in_gate),
            memory_delta * before * forget * (1 - forget),
            memory_delta * in_gate * (1 - new.square()),
            unprojected * squashed * out * (1 - out),
        ],
        dim=1,
    )
    back = (gates @ cell.w_hh, memory_delta * forget)
    return (hidden_delta, memory_delta), back, gates


def _gru_step(inputs: Tensor, recurrent: Tensor, state: State) -> tuple[State, State]:
    before = state[0]
    input_r, input_z, input_n = inputs.chunk(3, dim=1)
    hidden_r, hidden_z, hidden_n = recurrent.chunk(3, dim=1)
    reset = (input_r + hidden_r).sigmoid()
    update = (input_z + hidden_z).sigmoid()
    new = (input_n + reset * hidden_n).tanh()
    return (new + update * (before - new),), (before, reset, update, new, hidden_n)


def _gru_vjp(cell: CellWeights, kept: State, delta: Tensor) -> tuple[Tensor, Tensor]:
    before, reset, update, new, hidden_n = kept
    on_new = delta * (1 - update) * (1 - new.square())
    on_update = delta * (before - new) * update * (1 - update)
    on_reset = on_new * hidden_n * reset * (1 - reset)
    recurrent = torch.cat([on_reset, on_update, on_new * reset], dim=1)
    back = delta * update + recurrent @ cell.w_hh
    return back, torch.cat([on_reset, on_update, on_new], dim=1)
