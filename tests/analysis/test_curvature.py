"""Lanczos agrees with dense eigenvalues; the limits are where optimisers really diverge."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gainstage.analysis.curvature import (
    Hessian,
    adam_sharpness,
    batch_sharpness,
    lanczos,
    max_stable_adam_lr,
    max_stable_lr,
    sharpness,
)
from gainstage.errors import ConfigError


def small_net() -> tuple[Tensor, list[Tensor]]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    x, y = torch.randn(20, 3).double(), torch.randn(20, 2).double()
    return (net(x) - y).square().mean(), list(net.parameters())


def dense(loss: Tensor, parameters: list[Tensor]) -> Tensor:
    hessian = Hessian(loss, parameters)
    size = sum(each.numel() for each in parameters)
    columns = []
    for unit in torch.eye(size, dtype=torch.float64):
        pieces = unit.split([each.numel() for each in parameters])
        vector = tuple(p.reshape(each.shape) for p, each in zip(pieces, parameters, strict=True))
        columns.append(torch.cat([part.flatten() for part in hessian(vector)]))
    return torch.stack(columns, 1)


def test_lanczos_finds_the_ends_of_a_nets_hessian() -> None:
    loss, parameters = small_net()
    values = torch.linalg.eigvalsh(dense(loss, parameters))
    found = sharpness(loss, parameters)
    assert found.largest == pytest.approx(values[-1].item(), rel=1e-4)
    assert abs(found.largest - values[-1].item()) <= found.error + 1e-9
    assert found.products < 32 == len(values)
    exact = lanczos(Hessian(loss, parameters), parameters, tolerance=0.0)
    assert exact.largest == pytest.approx(values[-1].item(), rel=1e-9)
    assert exact.smallest == pytest.approx(values[0].item(), rel=1e-6)
    assert all(each.grad is None for each in parameters)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=12), st.integers(0, 1000))
def test_the_spectrum_of_a_quadratic_is_its_matrix(values: list[float], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    size = len(values)
    q, _ = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    matrix = q @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ q.t()
    x = torch.randn(size, generator=generator, dtype=torch.float64).requires_grad_()
    found = lanczos(Hessian(0.5 * x @ matrix @ x, [x]), [x], tolerance=0.0)
    scale = max(map(abs, values))
    assert found.largest == pytest.approx(max(values), abs=1e-7 * scale + 1e-12)
    assert found.smallest == pytest.approx(min(values), abs=1e-7 * scale + 1e-12)


def test_random_numbers_of_the_run_are_left_alone() -> None:
    loss, parameters = small_net()
    before = torch.get_rng_state()
    first = sharpness(loss, parameters)
    assert torch.equal(before, torch.get_rng_state())
    assert first == sharpness(loss, parameters)


def test_linear_losses_and_unused_parameters_are_flat() -> None:
    x, unused = torch.ones(3, requires_grad=True), torch.ones(2, requires_grad=True)
    assert sharpness(x.sum(), [x, unused]).largest == 0.0
    mixed = sharpness(1.5 * x.square().sum(), [x, unused])
    assert mixed.largest == pytest.approx(3.0, rel=1e-6)
    assert math.isnan(batch_sharpness((x - 1).square().sum(), [x]))
    assert math.isnan(sharpness((x * math.nan).square().sum(), [x]).largest)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_sgd_diverges_just_above_its_limit(momentum: float) -> None:
    limit = max_stable_lr(8.0, momentum=momentum)
    assert limit == pytest.approx(2 * (1 + momentum) / 8)

    def end(lr: float) -> float:
        x = torch.ones(1, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.SGD([x], lr=lr, momentum=momentum)
        for _ in range(400):
            optimizer.zero_grad()
            (4 * x.square()).sum().backward()
            optimizer.step()
        return abs(x.item())

    assert end(0.98 * limit) < 1e-2
    assert end(1.02 * limit) > 10


def test_adams_limit_is_that_of_its_average() -> None:
    """With a frozen preconditioner, Adam is m ← β₁m + (1−β₁)g, x ← x − lr·m."""
    limit = max_stable_adam_lr(8.0)
    assert limit * 8 == pytest.approx(38.0)

    def end(lr: float) -> float:
        x, m = 1.0, 0.0
        for _ in range(3000):
            m = 0.9 * m + 0.1 * 8 * x
            x -= lr * m
        return abs(x)

    assert end(0.98 * limit) < 1e-2
    assert end(1.02 * limit) > 10


def test_adams_sharpness_is_of_the_preconditioned_hessian() -> None:
    curvature = torch.tensor([100.0, 1.0], dtype=torch.float64)
    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    loss = 0.5 * (curvature * x.square()).sum()
    moments = [torch.tensor([4.0, 1e-4], dtype=torch.float64)]
    found = adam_sharpness(loss, [x], moments, step=10**6, eps=0.0)
    assert found.largest == pytest.approx(max(100 / 2, 1 / 1e-2), rel=1e-6)
    early = adam_sharpness(loss, [x], moments, step=1, eps=0.0)
    factor = 0.1 / math.sqrt(1 - 0.999)
    assert early.largest == pytest.approx(found.largest / factor, rel=1e-6)


def test_batch_sharpness_is_the_curvature_along_the_gradient() -> None:
    curvature = torch.tensor([5.0, 1.0], dtype=torch.float64)
    x = torch.tensor([0.0, 3.0], dtype=torch.float64, requires_grad=True)
    loss = 0.5 * (curvature * x.square()).sum()
    assert batch_sharpness(loss, [x]) == pytest.approx(1.0)
    assert sharpness(loss, [x]).largest == pytest.approx(5.0)


def test_what_cannot_be_is_said() -> None:
    loss, parameters = small_net()
    with pytest.raises(ConfigError, match=r"\[0, 1\), got 1.0"):
        max_stable_lr(1.0, momentum=1.0)
    with pytest.raises(ConfigError, match="beta1"):
        max_stable_adam_lr(1.0, beta1=-0.1)
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        adam_sharpness(loss, parameters, parameters, step=0)
    with pytest.raises(ConfigError, match="needs a dimension"):
        lanczos(lambda v: v, [])
    assert max_stable_lr(-1.0) == max_stable_adam_lr(0.0) == math.inf
