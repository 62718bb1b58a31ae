"""What theory says of a stack of wide random layers: no network is run here."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gainstage.analysis.initial_scale import activation_named, gaussian_mean


def mean_field_levels(
    activation: str, gain: float, depth: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the levels of pre-activations and of deltas over a stack's layers, in bits.

    The mean square q of a pre-activation follows q ← g²·E φ(√q z)², that of a delta is multiplied
    by χ = g²·E φ'(√q z)² a layer, z ~ N(0, 1); what `mean_field_chi` measures. Source: Poole et al.
    (2016), arXiv 1606.05340; Schoenholz et al. (2017), arXiv 1611.01232. Gaussian and orthogonal
    matrices have the same q and χ at infinite width.

    Args:
        activation: Of every layer; see `activation_gain`.
        gain: Root mean square of a matrix's singular values.
        depth: Layers, 1 or more; the inputs are N(0, 1).

    Returns:
        Forward from the first layer on, backward from the last one on; shorter than `depth` where
        a level leaves the range of numbers.

    Raises:
        ConfigError: If the activation is not known.
    """
    act = activation_named(activation)
    q = gain * gain
    forward, chis = [0.5 * math.log2(q)], list[float]()
    for _ in range(depth - 1):
        scale = math.sqrt(q)

        def squared(z: Tensor, scale: float = scale) -> Tensor:
            return act(scale * z).square()

        def squared_slope(z: Tensor, scale: float = scale) -> Tensor:
            at = (scale * z).requires_grad_()
            with torch.enable_grad():
                (slope,) = torch.autograd.grad(act(at).sum(), at)
            return slope.square()

        q = gain * gain * gaussian_mean(squared)
        chi = gain * gain * gaussian_mean(squared_slope)
        if not (0 < q < math.inf and chi > 0):
            break
        forward.append(0.5 * math.log2(q))
        chis.append(0.5 * math.log2(chi))
    backward = [0.0]
    for bits in chis[::-1]:
        backward.append(backward[-1] + bits)
    return tuple(forward), tuple(backward)
