"""Norms of gradients wherever they are, for treatments, which must know them before the step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gainstage.norms.deferred import fetched_norms
from gainstage.norms.sums import EXACT_ROW, is_dense_cpu, norm_of
from gainstage.norms.total import gradient_norms


def norms_of(grads: Sequence[Tensor], norm_type: float = 2.0) -> list[float]:
    """Return the p-norm of each gradient, on any device; waits for it once."""
    if norm_type == 2.0:
        on_cpu = all(grad.is_cpu for grad in grads)
        norms = gradient_norms(grads, row=EXACT_ROW)[0] if on_cpu else fetched_norms(grads)[0]
        return [0.0 if norm is None else norm for norm in norms]
    return [
        norm_of(grad, norm_type)
        if is_dense_cpu(grad)
        else float(torch.linalg.vector_norm(grad.detach(), norm_type))
        for grad in grads
    ]
