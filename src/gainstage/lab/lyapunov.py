"""Finite-time Lyapunov exponents of a tanh recurrence, by repeated QR (DESIGN 7)."""

from __future__ import annotations

import torch
from torch import Tensor


def lyapunov_exponents(matrix: Tensor, inputs: Tensor, count: int) -> list[float]:
    """Return the largest exponents of h ← tanh(W h + input) along its trajectory from 0.

    λ_i = (1/T) Σ_t log2 |R_ii(t)| with J_t Q_{t−1} = Q_t R_t, and
    J_t = diag(1 − h_t²) W. Source: Benettin et al. (1980), Meccanica 15, 9-20.

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
        state = torch.tanh(matrix @ state + drive)
        jacobian = (1 - state**2)[:, None] * matrix
        basis, upper = torch.linalg.qr(jacobian @ basis)
        total += torch.log2(torch.diagonal(upper).abs())
    return (total / len(inputs)).tolist()
