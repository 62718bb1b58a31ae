"""Finite-time Lyapunov exponents: bits per time step by which a recurrence stretches."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from gainstage.errors import ConfigError


def lyapunov_exponents(jacobians: Iterable[Tensor], *, count: int | None = None) -> Tensor:
    """Return the finite-time Lyapunov exponents of a product of Jacobians, in bits per time step.

    λ_i = (1/T) Σ_t log2 |R_ii(t)| with J_t Q_{t−1} = Q_t R_t: the directions are made orthogonal
    anew at every time step, so that neither explosion nor decay leaves the range of numbers. The
    sum of all exponents is log2 |det| of the product over T. Source: Benettin et al. (1980),
    Meccanica 15, 9-20; for recurrent networks Engelken et al. (2023), Phys. Rev. Res. 5, 043044.

    Args:
        jacobians: One of shape (..., n, n) a time step, the first one first; computed in float64.
            Leading dimensions are independent trajectories.
        count: How many exponents, the largest; all by default.

    Returns:
        Of shape (..., count), float64, the largest first; -inf for a direction that was lost.

    Raises:
        ConfigError: If there is no Jacobian, one is not square, or `count` is not in 1..n.
    """
    sums: Tensor | None = None
    directions: Tensor | None = None
    time_steps = 0
    for jacobian in jacobians:
        if sums is None or directions is None:
            directions = _start(jacobian, count)
            sums = directions.new_zeros(*jacobian.shape[:-2], directions.shape[-1])
        directions, triangle = torch.linalg.qr(jacobian.detach().double() @ directions)
        sums = sums + triangle.diagonal(dim1=-2, dim2=-1).abs().log2()
        time_steps += 1
    if sums is None:
        raise ConfigError("exponents need at least one Jacobian, got none")
    return (sums / time_steps).sort(dim=-1, descending=True).values


def _start(jacobian: Tensor, count: int | None) -> Tensor:
    rows, columns = jacobian.shape[-2:]
    if rows != columns:
        raise ConfigError(f"a state's Jacobian must be square, got {rows} x {columns}")
    kept = columns if count is None else count
    if not 1 <= kept <= columns:
        raise ConfigError(f"count must be between 1 and {columns}, got {count!r}")
    return torch.eye(columns, kept, dtype=torch.float64, device=jacobian.device).expand(
        *jacobian.shape[:-2], columns, kept
    )
