"""Finite-time Lyapunov exponents of a tanh recurrence, by repeated QR (DESIGN 7)."""

from __future__ import annotations

import torch
from torch import Tensor


def lyapunov_exponents(matrix: Tensor, inputs: Tensor, count: int) -> list[float]:
    """Return the largest exponents of h ← tanh(W h + input) along its trajectory from 0.

    λ_i = (1/T) Σ_t log2 |R_ii(t)| with J_t Q_{t−1} = Q_t R_t, and J_t Q from autograd.
    Source: Benettin et al. (1980), Meccanica 15, 9-20.

    Args:
        matrix: Shape (n, n), float64.
        inputs: Shape (T, n): what is added at each time step.
        count: How many exponents.

    Returns:
        Bits a time step, the largest first; positive expands.
    """
    state = torch.zeros(len(matrix), dtype=matrix.dtype)
    basis = torch.eye(len(matrix), dtype=matrix.dtype)[:, :count]
    total = torch.zeros(count, dtype=matrix.dtype)
    for drive in inputs:

        def following(state: Tensor, drive: Tensor = drive) -> Tensor:
            return torch.tanh(matrix @ state + drive)

        columns = [torch.func.jvp(following, (state,), (column,))[1] for column in basis.T]
        basis, upper = torch.linalg.qr(torch.stack(columns, 1))
        total += torch.log2(torch.diagonal(upper).abs())
        state = following(state)
    return (total / len(inputs)).tolist()
