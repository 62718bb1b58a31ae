"""Gradients by time step: how far back they reach, and what each time step adds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gainstage.analysis.rnn_cells import CellWeights, cell_step_vjp, unroll, unroll_vjp
from gainstage.detect.level.time_gain import TimeGain
from gainstage.lab.adding_task import Adder
from gainstage.lab.probed import read_time_steps


def by_time_step(model: Adder, inputs: Tensor, sums: Tensor) -> tuple[tuple[float, ...], TimeGain]:
    """Return the levels of ∂L/∂h by time step, and their growth on the way back.

    Read and judged as on a sampled step of a real run. The gradients of the parameters are left
    in place.
    """
    model.zero_grad()
    return read_time_steps(nn.functional.mse_loss(model(inputs), sums))


def added_gradients(model: Adder, inputs: Tensor, sums: Tensor) -> list[Tensor]:
    """Return what each time step adds to the gradient of a tanh RNN's recurrent weights.

    Their sum is that gradient. The first time step starts from 0 and adds nothing.
    """
    get = model.recurrent.get_parameter
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    cell = CellWeights("rnn_tanh", *(get(name).detach() for name in names))
    start = torch.zeros(len(inputs), cell.w_hh.shape[1])
    with torch.no_grad():
        run = unroll(cell, list(inputs.unbind(1)), (start,))
    hidden = [state[0] for state in run.states]
    last = hidden[-1].clone().requires_grad_()
    loss = nn.functional.mse_loss(model.readout(last).squeeze(1), sums)
    (final,) = torch.autograd.grad(loss, last)
    silent = [torch.zeros_like(final)] * len(hidden)
    deltas, _ = unroll_vjp(cell, run.kept, silent, (final,), inputs=False)
    gates = [cell_step_vjp(cell, k, d)[2] for k, d in zip(run.kept, deltas, strict=True)]
    before = [start, *hidden[:-1]]
    return [gate.T @ state for gate, state in zip(gates, before, strict=True)]
