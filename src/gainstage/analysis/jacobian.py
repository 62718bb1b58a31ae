"""Jacobians of a recurrence along its own trajectory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gainstage.errors import ConfigError

Step = Callable[[Tensor, int], Tensor]
"""From the state before a time step, and the time step's number, to the state after it."""


def state_jacobian(step: Callable[[Tensor], Tensor], state: Tensor) -> Tensor:
    """Return ∂h_t/∂h_{t−1} of one step, by one vjp a component of the new state.

    Works with every operation that has a backward, fused layers included, and fills no `.grad`.

    Args:
        step: Differentiable, from a state of shape (..., n) to one of shape (..., m). Leading
            dimensions are independent samples: none may depend on another.
        state: The state before the step.

    Returns:
        Of shape (..., m, n): rows are components of the new state.

    Raises:
        ConfigError: If the state is a scalar.
    """
    if state.dim() == 0:
        raise ConfigError("a state needs a dimension of components, got a scalar; use shape (1,)")
    with torch.enable_grad():
        before = state.detach().requires_grad_()
        after = step(before)
        rows = after.shape[-1]
        if not after.requires_grad:
            return state.new_zeros(*state.shape[:-1], rows, state.shape[-1])
        found = [_row(after[..., row].sum(), before) for row in range(rows)]
    return torch.stack(found, dim=-2)


def trajectory_jacobians(step: Step, initial: Tensor, time_steps: int) -> Iterator[Tensor]:
    """Yield the Jacobian of each time step along the trajectory that starts at a state.

    Args:
        step: Takes the state before and the time step from 0; closes over the run's own inputs.
        initial: The state before the first time step, of shape (..., n).
        time_steps: How many.
    """
    state = initial.detach()
    for time_step in range(time_steps):

        def at_this_time(before: Tensor, time_step: int = time_step) -> Tensor:
            return step(before, time_step)

        yield state_jacobian(at_this_time, state)
        with torch.no_grad():
            state = step(state, time_step)


def singular_values(jacobian: Tensor) -> Tensor:
    """Return the singular values of shape (..., min(m, n)), the largest first."""
    return torch.linalg.svdvals(jacobian.double())


def spectral_norm(jacobian: Tensor) -> Tensor:
    """Return the largest singular value: the largest gain of one step."""
    return singular_values(jacobian)[..., 0]


def spectral_radius(jacobian: Tensor) -> Tensor:
    """Return the largest magnitude of an eigenvalue: the gain in the long run of equal steps."""
    return torch.linalg.eigvals(jacobian.double()).abs().amax(dim=-1)


def _row(component: Tensor, before: Tensor) -> Tensor:
    (row,) = torch.autograd.grad(
        component, before, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return row
