"""The equations written out agree with torch's cells and with autograd."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from gainstage.analysis.jacobian import state_jacobian
from gainstage.analysis.lyapunov import lyapunov_exponents
from gainstage.analysis.rnn_cells import CellWeights, cell_step, cell_step_vjp, unroll

CELLS: list[tuple[Any, Any]] = [
    ("rnn_tanh", nn.RNNCell(3, 4)),
    ("rnn_relu", nn.RNNCell(3, 4, nonlinearity="relu")),
    ("gru", nn.GRUCell(3, 4)),
    ("lstm", nn.LSTMCell(3, 4)),
]


@pytest.mark.parametrize(("kind", "module"), CELLS, ids=[kind for kind, _ in CELLS])
def test_a_step_and_its_vjp(kind: Any, module: Any) -> None:
    torch.manual_seed(0)
    cell = CellWeights(kind, module.weight_ih, module.weight_hh, module.bias_ih, module.bias_hh)
    state = tuple(torch.randn(5, 4, requires_grad=True) for _ in range(2 if kind == "lstm" else 1))
    x = torch.randn(5, 3, requires_grad=True)
    theirs = module(x, state if kind == "lstm" else state[0])
    theirs = theirs if kind == "lstm" else (theirs,)
    ours, kept = cell_step(cell, x, state)
    delta = tuple(torch.randn(5, 4) for _ in state)
    grads = torch.autograd.grad(theirs, [*state, x], delta)
    with torch.no_grad():
        _, before, on_gates = cell_step_vjp(cell, kept, delta)
        on_input = on_gates @ module.weight_ih
    for one, other in zip([*ours, *before, on_input], [*theirs, *grads], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_the_exponents_of_a_run_come_from_its_own_layer() -> None:
    """Jacobians from a layer's saved weights and states multiply up to the layer's own gradient."""
    torch.manual_seed(0)
    layer = nn.GRU(3, 4).double()
    cell = CellWeights(
        "gru", layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0
    )
    xs = torch.randn(6, 1, 3).double()
    h0 = torch.zeros(1, 4, dtype=torch.float64)
    states = [h0, *[state[0].detach() for state in unroll(cell, list(xs), (h0,)).states]]
    jacobians = [
        state_jacobian(lambda h, x=x: cell_step(cell, x, (h,))[0][0], before)[0]
        for x, before in zip(xs, states, strict=False)
    ]
    product = torch.linalg.multi_dot(jacobians[::-1])
    whole = state_jacobian(lambda h: layer(xs, h.unsqueeze(0))[1][0], h0)[0]
    torch.testing.assert_close(product, whole)
    total = lyapunov_exponents(jacobians).sum() * 6
    assert total.item() == pytest.approx(torch.linalg.det(whole).abs().log2().item(), rel=1e-9)
