"""What theory says of a wide stack of random layers: no network is run here.

The variance q of a pre-activation follows q ← g²·E φ(√q z)², that of the gradient is multiplied by
χ = g²·E φ'(√q z)² a layer, z ~ N(0, 1). Source: Poole et al. (2016), arXiv:1606.05340; Schoenholz
et al. (2017), arXiv:1611.01232. Orthogonal matrices have the same q and χ at infinite width.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch

from gainstage.bits import theil_sen
from gainstage.lab.deep_net import ACTIVATIONS

_NODES = 201


@cache
def _quadrature() -> tuple[torch.Tensor, torch.Tensor]:
    """Return nodes and weights of E f(z), z ~ N(0, 1), on a fine even grid.

    ReLU has a kink, on which Gauss-Hermite converges slowly; the grid is exact to 1e-6.
    """
    z = torch.linspace(-8, 8, 40 * (_NODES - 1) + 1, dtype=torch.float64)
    density = torch.exp(-z * z / 2)
    return z, density / density.sum()


def slopes(activation: str, gain: float, depth: int) -> tuple[float, float]:
    """Return (forward, backward) slopes in bits a layer over `depth` layers, inputs N(0, 1)."""
    act = ACTIVATIONS[activation]
    z, density = _quadrature()
    q = gain * gain
    forward, backward = [0.5 * math.log2(q)], [0.0]
    for _ in range(depth - 1):
        at = (math.sqrt(q) * z).requires_grad_()
        out = act(at)
        (derivative,) = torch.autograd.grad(out.sum(), at)
        q = gain * gain * float((density * out.detach() ** 2).sum())
        chi = gain * gain * float((density * derivative**2).sum())
        if not (0 < q < math.inf and chi > 0):
            break
        forward.append(0.5 * math.log2(q))
        backward.append(backward[-1] + 0.5 * math.log2(chi))
    return _slope(forward), _slope(backward)


def _slope(levels: list[float]) -> float:
    return theil_sen(np.arange(len(levels)), levels)
