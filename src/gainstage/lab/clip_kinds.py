"""The kinds of clipping that the lab sets side by side: one row each, added in `KINDS` alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gainstage.norms.clip import clip_coefficient, scale_gradients_
from gainstage.norms.total import total_norm

Clipper = Callable[[Sequence[Tensor], list[Tensor], float], None]
"""Takes parameters, their gradients and the threshold; changes the gradients in place."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of clipping."""

    name: str
    clip: Clipper
    limits: str
    """What the threshold bounds."""
    costs: str
    """Reads and writes of the gradients."""


def by_global_norm(norm_type: float) -> Clipper:
    """Return a clip of all gradients together by their p-norm."""

    def clip(parameters: Sequence[Tensor], grads: list[Tensor], limit: float) -> None:
        norm = total_norm(grads, norm_type=norm_type)
        scale_gradients_(grads, clip_coefficient(limit, norm), foreach=None)

    return clip


def by_value(parameters: Sequence[Tensor], grads: list[Tensor], limit: float) -> None:
    """Cut every element to ±limit."""
    for grad in grads:
        grad.clamp_(-limit, limit)


def per_parameter(parameters: Sequence[Tensor], grads: list[Tensor], limit: float) -> None:
    """Clip each gradient by its own 2-norm."""
    for grad in grads:
        scale_gradients_([grad], clip_coefficient(limit, total_norm([grad])), foreach=None)


def adaptive(parameters: Sequence[Tensor], grads: list[Tensor], limit: float) -> None:
    """Clip each unit's gradient to `limit` times the norm of its weights (at least 1e-3).

    A unit is a row; a vector is one. Source: Brock et al. (2021), arXiv:2102.06171.
    """
    for parameter, grad in zip(parameters, grads, strict=True):
        rest = tuple(range(1, grad.ndim)) if grad.ndim > 1 else None
        weight = torch.linalg.vector_norm(parameter.detach(), dim=rest, keepdim=True)
        norm = torch.linalg.vector_norm(grad, dim=rest, keepdim=True)
        allowed = limit * weight.clamp(min=1e-3)
        grad.mul_((allowed / norm.clamp(min=1e-30)).clamp(max=1.0))


KINDS = (
    Kind("global 2-norm", by_global_norm(2.0), "norm of all", "1 read, 1 write if active"),
    Kind("global max-norm", by_global_norm(float("inf")), "largest entry, by scaling all", "same"),
    Kind("value", by_value, "every entry, by cutting", "1 read, 1 write"),
    Kind("per parameter", per_parameter, "norm of each tensor", "same as global"),
    Kind("adaptive", adaptive, "norm of each unit / its weights", "reads weights too"),
)


def clipped(
    kind: Kind, parameters: Sequence[Tensor], grads: Sequence[Tensor], limit: float
) -> list[Tensor]:
    """Return what a kind of clipping makes of gradients, which stay as they are."""
    copies = [grad.clone() for grad in grads]
    kind.clip(parameters, copies, limit)
    return copies
