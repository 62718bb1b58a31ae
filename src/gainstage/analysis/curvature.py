"""Curvature of the loss, and the learning rates that it bears."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gainstage.errors import ConfigError

Vectors = tuple[Tensor, ...]
"""One tensor a parameter."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The ends of a symmetric matrix's spectrum, as Lanczos found them."""

    largest: float
    smallest: float
    error: float
    """Bound of the error of `largest`: some eigenvalue lies that near."""
    products: int
    """Matrix-vector products used."""


class Hessian:
    """Products of a loss's Hessian with vectors, each at the cost of two backward passes.

    Fills no `.grad`. Every operation of the loss must have a second derivative; fused recurrent
    layers have none, and torch says so.
    """

    def __init__(self, loss: Tensor, parameters: Sequence[Tensor]) -> None:
        self.parameters = tuple(parameters)
        self.gradient: Vectors = torch.autograd.grad(
            loss, self.parameters, create_graph=True, allow_unused=True, materialize_grads=True
        )

    def __call__(self, vector: Vectors) -> Vectors:
        """Return the Hessian times a vector."""
        if not any(each.requires_grad for each in self.gradient):
            return tuple(torch.zeros_like(each) for each in vector)
        curved = [pair for pair in zip(self.gradient, vector, strict=True) if pair[0].requires_grad]
        return torch.autograd.grad(
            [gradient for gradient, _ in curved],
            self.parameters,
            [direction for _, direction in curved],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )


def lanczos(
    product: Callable[[Vectors], Vectors],
    like: Sequence[Tensor],
    *,
    products: int = 64,
    tolerance: float = 1e-4,
    seed: int = 0,
) -> Spectrum:
    """Return the ends of the spectrum of a symmetric operator from products with it alone.

    With full reorthogonalisation, so that no eigenvalue is found twice. Random numbers come from a
    generator of its own. Source: Lanczos (1950); Paige (1972).

    Args:
        product: The operator.
        like: Tensors that give the shape of its vectors. One vector is kept a product.
        products: At most so many, and no more than there are dimensions.
        tolerance: Stop once the largest eigenvalue is known to this relative error.
        seed: Of the starting vector.

    Raises:
        ConfigError: If there is nothing to multiply.
    """
    size = sum(each.numel() for each in like)
    if size == 0 or products < 1:
        raise ConfigError(f"Lanczos needs a dimension and a product, got {size} and {products!r}")
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(size, generator=generator, dtype=torch.float64).to(like[0].device)
    basis = [start / start.norm()]
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    while True:
        applied = _flat(product(_shaped(basis[-1], like)))
        diagonal.append(float(applied @ basis[-1]))
        # Twice is enough (Parlett): once leaves what rounding made of the first.
        for _ in range(2):
            known = torch.stack(basis)
            applied = applied - known.t() @ (known @ applied)
        rest = float(applied.norm())
        spectrum = _ritz(diagonal, off_diagonal, rest)
        scale = max(abs(spectrum.largest), abs(spectrum.smallest))
        exhausted = len(diagonal) >= min(products, size) or rest <= 1e-12 * scale
        if exhausted or spectrum.error <= tolerance * scale or rest != rest:
            return spectrum
        off_diagonal.append(rest)
        basis.append(applied / rest)


def sharpness(
    loss: Tensor, parameters: Sequence[Tensor], *, products: int = 64, seed: int = 0
) -> Spectrum:
    """Return the ends of the spectrum of a loss's Hessian.

    Args:
        loss: A scalar with its graph, which is kept.
        parameters: The leaves it is differentiated by.
        products: At most so many Hessian-vector products.
        seed: Of the starting vector.
    """
    return lanczos(Hessian(loss, parameters), parameters, products=products, seed=seed)


def adam_sharpness(
    loss: Tensor,
    parameters: Sequence[Tensor],
    second_moments: Sequence[Tensor],
    *,
    step: int,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    products: int = 64,
) -> Spectrum:
    """Return the ends of the spectrum of the Hessian as Adam sees it, P^−½ H P^−½.

    P = (1 − β₁ᵗ) (√(v / (1 − β₂ᵗ)) + ε). Source: Cohen et al. (2022), arXiv 2207.14484.

    Args:
        loss: A scalar with its graph.
        parameters: The leaves.
        second_moments: Adam's `exp_avg_sq` of each.
        step: t, how many updates Adam has made, from 1.
        betas: Adam's.
        eps: Adam's.
        products: At most so many Hessian-vector products.

    Raises:
        ConfigError: If `step` is not positive.
    """
    if step < 1:
        raise ConfigError(f"Adam's step must be at least 1, got {step!r}")
    first, second = 1 - betas[0] ** step, 1 - betas[1] ** step
    roots = [(first * ((v.detach() / second).sqrt() + eps)).rsqrt() for v in second_moments]
    hessian = Hessian(loss, parameters)

    def product(vector: Vectors) -> Vectors:
        scaled = tuple(root * each for root, each in zip(roots, vector, strict=True))
        return tuple(root * each for root, each in zip(roots, hessian(scaled), strict=True))

    return lanczos(product, parameters, products=products)


def batch_sharpness(loss: Tensor, parameters: Sequence[Tensor]) -> float:
    """Return gᵀHg / ‖g‖² of one batch's loss; NaN where the gradient is zero.

    Rises to 2/lr and hovers there when mini-batches reach the edge of stability, while λ_max of
    the whole data reads low. Source: Andreyev and Beneventano (2024), arXiv 2412.20553.
    """
    hessian = Hessian(loss, parameters)
    gradient = tuple(each.detach() for each in hessian.gradient)
    flat = _flat(gradient)
    squared = float(flat @ flat)
    return float(flat @ _flat(hessian(gradient))) / squared if squared > 0 else float("nan")


def max_stable_lr(largest: float, *, momentum: float = 0.0) -> float:
    """Return the learning rate above which gradient descent diverges, 2(1+β)/λ_max.

    Args:
        largest: Largest eigenvalue of the Hessian; inf is returned where none is positive.
        momentum: β of heavy-ball momentum, as in `torch.optim.SGD` with dampening 0.

    Raises:
        ConfigError: If `momentum` is not in [0, 1).
    """
    _check_beta("momentum", momentum)
    return 2 * (1 + momentum) / largest if largest > 0 else float("inf")


def max_stable_adam_lr(largest: float, *, beta1: float = 0.9) -> float:
    """Return the learning rate above which Adam diverges: 38/λ at β₁ = 0.9.

    Args:
        largest: Largest eigenvalue of the preconditioned Hessian, as `adam_sharpness` gives it.
        beta1: Adam's; its average of gradients makes the limit (2 + 2β₁) / ((1 − β₁) λ).

    Raises:
        ConfigError: If `beta1` is not in [0, 1).
    """
    _check_beta("beta1", beta1)
    return (2 + 2 * beta1) / ((1 - beta1) * largest) if largest > 0 else float("inf")


def _ritz(diagonal: list[float], off_diagonal: list[float], rest: float) -> Spectrum:
    """Return the ends of the small tridiagonal matrix's spectrum, and how well they are known."""
    small = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    beside = torch.tensor(off_diagonal, dtype=torch.float64)
    small = small + torch.diag(beside, 1) + torch.diag(beside, -1)
    if not bool(torch.isfinite(small).all()):
        return Spectrum(float("nan"), float("nan"), float("nan"), len(diagonal))
    values, vectors = torch.linalg.eigh(small)
    error = rest * abs(float(vectors[-1, -1]))
    return Spectrum(float(values[-1]), float(values[0]), error, len(diagonal))


def _flat(parts: Vectors) -> Tensor:
    return torch.cat([each.detach().reshape(-1).double() for each in parts])


def _shaped(flat: Tensor, like: Sequence[Tensor]) -> Vectors:
    pieces = flat.split([each.numel() for each in like])
    return tuple(
        piece.reshape(each.shape).to(each) for piece, each in zip(pieces, like, strict=True)
    )


def _check_beta(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ConfigError(f"{name} must be in [0, 1), got {value!r}")
