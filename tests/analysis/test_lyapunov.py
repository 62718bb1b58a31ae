"""Exponents and Jacobians agree with spectra that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gainstage.analysis.jacobian import (
    singular_values,
    spectral_norm,
    spectral_radius,
    state_jacobian,
    trajectory_jacobians,
)
from gainstage.analysis.lyapunov import lyapunov_exponents
from gainstage.errors import ConfigError


@pytest.mark.parametrize(("w", "gain"), [(1.01, 2.7048), (0.99, 0.3660)])
def test_a_scalar_over_a_hundred_steps(w: float, gain: float) -> None:
    jacobians = trajectory_jacobians(lambda h, _: w * h, torch.ones(1, dtype=torch.float64), 100)
    (exponent,) = lyapunov_exponents(jacobians).tolist()
    assert exponent == pytest.approx(math.log2(w), rel=1e-9)
    assert 2.0 ** (100 * exponent) == pytest.approx(gain, rel=1e-4)


def test_an_orthogonal_matrix_neither_stretches_nor_shrinks() -> None:
    torch.manual_seed(0)
    q, _ = torch.linalg.qr(torch.randn(20, 20, dtype=torch.float64))
    jacobians = list(trajectory_jacobians(lambda h, _: q @ h, torch.randn(20).double(), 40))
    torch.testing.assert_close(lyapunov_exponents(jacobians), torch.zeros(20).double())
    assert spectral_norm(jacobians[0]).item() == pytest.approx(1)
    assert spectral_radius(jacobians[0]).item() == pytest.approx(1)


def test_a_constant_matrix_has_the_logarithms_of_its_eigenvalues() -> None:
    torch.manual_seed(0)
    basis = torch.randn(4, 4, dtype=torch.float64)
    values = torch.tensor([3.0, 1.5, 0.5, 0.1], dtype=torch.float64)
    matrix = basis @ torch.diag(values) @ torch.linalg.inv(basis)
    exponents = lyapunov_exponents([matrix] * 1000)
    torch.testing.assert_close(exponents, values.log2(), atol=0.02, rtol=0)
    torch.testing.assert_close(lyapunov_exponents([matrix] * 1000, count=2), exponents[:2])


def test_no_overflow_where_the_product_itself_has_long_gone() -> None:
    jacobian = torch.tensor([[2.0**40, 0.0], [0.0, 2.0**-40]], dtype=torch.float64)
    assert lyapunov_exponents([jacobian] * 500).tolist() == [40.0, -40.0]
    assert lyapunov_exponents([torch.zeros(2, 2)]).tolist() == [-math.inf, -math.inf]


def random_matrix(n: int, g: float) -> Tensor:
    return torch.randn(n, n, dtype=torch.float64) * g / math.sqrt(n)


def test_a_random_matrix_fills_ginibres_disc() -> None:
    """With entries of variance g²/n the eigenvalues fill a disc of radius g; the norm is 2g."""
    torch.manual_seed(0)
    g = 1.5
    w = random_matrix(400, g)
    inside = torch.linalg.eigvals(w).abs()
    assert spectral_radius(w).item() == inside.max().item() == pytest.approx(g, rel=0.08)
    assert spectral_norm(w).item() == pytest.approx(2 * g, rel=0.02)
    shares = [(inside < g * r).double().mean().item() for r in (0.5, 0.8)]
    assert shares == pytest.approx([0.25, 0.64], abs=0.03)


def test_a_random_recurrent_net_follows_the_theory() -> None:
    """While activations are small a tanh net is its matrix: the largest exponent is log2 g.

    Once they are not, a net with g > 1 is chaotic, yet held below it (Sompolinsky et al. 1988).
    """
    torch.manual_seed(0)
    n, g = 80, 1.5
    w = random_matrix(n, g)

    def step(h: Tensor, _: int) -> Tensor:
        return torch.tanh(w @ h)

    # From a state so small that 25 steps of growth by at most 2g leave it small.
    small = trajectory_jacobians(step, 1e-20 * torch.randn(n).double(), 25)
    exponent = lyapunov_exponents(small, count=1).item()
    assert exponent == pytest.approx(math.log2(spectral_radius(w).item()), abs=0.1)
    assert exponent == pytest.approx(math.log2(g), abs=0.25)
    large = lyapunov_exponents(trajectory_jacobians(step, torch.randn(n).double(), 25), count=1)
    assert large.item() < exponent - 0.2


def test_independent_random_matrices_have_newmans_spectrum() -> None:
    """λ_i of Gaussian matrices drawn anew each step: ½ (log2(2/n) + ψ((n−i+1)/2)/ln 2)."""
    special = pytest.importorskip("scipy.special")
    torch.manual_seed(0)
    n, steps = 6, 2500
    matrices = torch.randn(steps, n, n, dtype=torch.float64) / math.sqrt(n)
    expected = [
        0.5 * (math.log2(2 / n) + special.digamma((n - i) / 2) / math.log(2)) for i in range(n)
    ]
    found = lyapunov_exponents(iter(matrices))
    np.testing.assert_allclose(found.numpy(), expected, atol=0.06)


@given(st.integers(1, 5), st.integers(1, 12), st.integers(0, 1000), st.floats(0.1, 10))
def test_exponents_sum_to_the_determinant_and_shift_with_scale(
    n: int, steps: int, seed: int, scale: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrices = torch.randn(steps, n, n, generator=generator, dtype=torch.float64)
    matrices = matrices + 2 * torch.eye(n)
    found = lyapunov_exponents(iter(matrices))
    total = torch.linalg.det(matrices).abs().log2().mean()
    assert found.sum().item() == pytest.approx(total.item(), abs=1e-6)
    scaled = lyapunov_exponents(iter(matrices * scale))
    torch.testing.assert_close(scaled, found + math.log2(scale), atol=1e-9, rtol=0)
    order = torch.randperm(n, generator=generator)
    turned = lyapunov_exponents(iter(matrices[:, order][:, :, order]))
    assert turned.sum().item() == pytest.approx(found.sum().item(), abs=1e-6)


def test_trajectories_of_a_batch_are_independent() -> None:
    torch.manual_seed(0)
    w = torch.randn(3, 3, dtype=torch.float64)
    start = torch.randn(4, 3, dtype=torch.float64)
    together = lyapunov_exponents(trajectory_jacobians(lambda h, _: torch.tanh(h @ w), start, 20))
    for row in range(4):
        alone = lyapunov_exponents(
            trajectory_jacobians(lambda h, _: torch.tanh(h @ w), start[row], 20)
        )
        torch.testing.assert_close(together[row], alone)


def test_a_jacobian_is_autograds_own() -> None:
    torch.manual_seed(0)
    w, x = torch.randn(3, 5, requires_grad=True), torch.randn(5)

    def step(h: Tensor) -> Tensor:
        return torch.tanh(w @ h)

    ours = state_jacobian(step, x)
    theirs = torch.autograd.functional.jacobian(step, x)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(singular_values(ours).float(), torch.linalg.svdvals(ours))
    assert w.grad is None
    assert state_jacobian(lambda h: torch.ones(2), x).tolist() == [[0.0] * 5] * 2


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(ConfigError, match="at least one Jacobian"):
        lyapunov_exponents([])
    with pytest.raises(ConfigError, match="square, got 2 x 3"):
        lyapunov_exponents([torch.ones(2, 3)])
    with pytest.raises(ConfigError, match="between 1 and 2, got 3"):
        lyapunov_exponents([torch.eye(2)], count=3)
    with pytest.raises(ConfigError, match="got a scalar"):
        state_jacobian(lambda h: h, torch.tensor(1.0))
