"""Norms of many gradients: each by itself, and all taken together as one vector."""

from __future__ import annotations

import contextvars
import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from gainstage.errors import ConfigError
from gainstage.norms.sums import (
    FAST_ROW,
    FLOAT32,
    VIEWS,
    fast_sum_of_squares,
    is_dense_cpu,
    norm_of,
    view_of,
)
from gainstage.readable import PLAIN, has_memory, local_part

_SURE_SQUARES = 2.0**-70
"""Of 2^32 float32 elements whose squares sum to more, underflow has taken less than 1e-7."""

_SMALL = {*PLAIN, type(None)}
_ITEM = Tensor.item
_ADDRESS = Tensor.data_ptr
_SURE_NORM = 2.0**-35
_FEW = 24
"""Up to here as many calls of `item` take less than a `stack` and a `tolist`."""

_QUIET = contextvars.copy_context()
"""A context in which NumPy warns of no overflow: entering it costs a tenth of `np.errstate`."""
_QUIET.run(np.seterr, all="ignore")


def gradient_norms(
    grads: Sequence[Tensor | None], *, row: int = FAST_ROW
) -> tuple[list[float | None], float | None]:
    """Return the 2-norm of each gradient and of all together, as plain numbers.

    The read that `run` does once a step, before the optimizer: 1 µs a small tensor. Exact over the
    dtype's whole range. For gradients on the CPU: of a sparse one its values are read, of a DTensor
    its local part, and of one that the gate refuses nothing.

    Args:
        grads: Gradients of any shape and dtype; None where a parameter has none.
        row: As in `norm_of`: how many elements are summed in their own precision.

    Returns:
        The norms, None where there is no gradient, and the total, None where there is none at all.
    """
    return _QUIET.copy().run(_gradient_norms, grads, row)


def _gradient_norms(
    grads: Sequence[Tensor | None], row: int
) -> tuple[list[float | None], float | None]:
    norms: list[float | None] = []
    total = 0.0
    cached = VIEWS.get
    # After a backward pass no code and no data is in the caches: every line less counts double.
    for grad in grads:
        if (
            type(grad) is Tensor
            and grad.dtype is torch.float32
            and grad.is_cpu
            and grad.is_contiguous()
            and grad.data_ptr()  # 0 where its memory was let go
            and (count := grad.numel())
        ):
            if count <= row:
                view = cached(grad.data_ptr())
                if view is None or view.size != count or view.dtype is not FLOAT32:
                    view = view_of(grad, count)
                square = float(view.dot(view))
            else:
                square = fast_sum_of_squares(grad.detach().view(-1), count, row)
            if _SURE_SQUARES < square < math.inf:
                norms.append(math.sqrt(square))
                total += square
                continue
        norm = None if grad is None else _norm_of_any(local_part(grad), row)
        norms.append(norm)
        if norm is not None:
            total += norm * norm
    if 2.0**-900 < total < math.inf:
        return norms, math.sqrt(total)
    there = [norm for norm in norms if norm is not None]
    return norms, combine_norms(there, 2.0) if there else None


def small_norms(grads: list[Tensor | None]) -> tuple[Sequence[float | None], float | None]:
    """Return what `gradient_norms` does, quicker where all gradients are small: up to `FAST_ROW`.

    After a backward pass no code is in the caches, so that the first call of anything costs 5 to
    40 µs: here torch reads all gradients in one, by code that the optimizer needs next anyway.
    """
    if not _SMALL.issuperset(map(type, grads)):
        return gradient_norms(grads)  # a class of its own could start a collective operation
    try:
        if not all(map(_ADDRESS, grads)):  # pyright: ignore[reportArgumentType]
            return gradient_norms(grads)  # 0 where memory was let go
        # float32 accumulates what is narrower without overflow; torch refuses what is wider.
        each = torch._foreach_norm(grads, 2.0, torch.float32)  # pyright: ignore[reportArgumentType]
    except (TypeError, RuntimeError):
        return _norms_of_present(grads)
    norms: list[float] = list(map(_ITEM, each)) if len(each) <= _FEW else _as_list(each)
    total = math.hypot(*norms)
    if min(norms) > _SURE_NORM and total < math.inf:
        return norms, total
    for position, norm in enumerate(norms):
        if not _SURE_NORM < norm < math.inf:
            (again,) = gradient_norms([grads[position]])[0]
            norms[position] = 0.0 if again is None else again
    return norms, combine_norms(norms, 2.0)


def _norms_of_present(
    grads: list[Tensor | None],
) -> tuple[Sequence[float | None], float | None]:
    """Return the norms of gradients some of which torch does not take: None, float64, sparse."""
    present: list[Tensor | None] = [grad for grad in grads if grad is not None]
    if not present or len(present) == len(grads):
        return gradient_norms(grads)
    known, total = small_norms(present)
    norms = iter(known)
    return [None if grad is None else next(norms) for grad in grads], total


def _as_list(norms: Sequence[Tensor]) -> list[float]:
    return torch.stack(norms).tolist()  # pyright: ignore


def _norm_of_any(grad: Tensor, row: int) -> float | None:
    if not has_memory(grad):
        return None
    if is_dense_cpu(grad):
        return norm_of(grad, row=row)
    grad = grad.detach()
    if grad.layout is not torch.strided:
        # Duplicates of an uncoalesced gradient add up when the optimizer applies it.
        grad = (grad.coalesce() if grad.layout is torch.sparse_coo else grad).values()
        return _norm_of_any(grad, row)
    return float(torch.linalg.vector_norm(grad))


def combine_norms(norms: Sequence[float], norm_type: float) -> float:
    """Return the p-norm of a vector from the p-norms of its parts, without overflow on the way."""
    if not norms:
        return 0.0
    if any(norm != norm for norm in norms):
        return math.nan
    largest = max(norms)
    if norm_type == math.inf or largest == 0.0 or largest == math.inf:
        return largest
    if norm_type == 2.0:
        return math.hypot(*norms)
    return largest * math.fsum((norm / largest) ** norm_type for norm in norms) ** (1.0 / norm_type)


def total_norm(grads: Iterable[Tensor], *, norm_type: float = 2.0) -> float:
    """Return the p-norm of all gradients, taken together as one vector.

    The quantity of `torch.nn.utils.get_total_norm`, exact over the whole range of the dtype:
    torch's is inf once values pass 2^64. Call it after unscaling and before clipping.

    Args:
        grads: Dense floating CPU tensors of any shape and dtype. May be empty.
        norm_type: The p of the p-norm, p > 0; `math.inf` for the largest magnitude.

    Returns:
        The norm in the gradient's units; inf or nan only if an entry is.

    Raises:
        ConfigError: If `norm_type` is not positive.

    Example:
        >>> total_norm([torch.tensor([3.0]), torch.tensor([4.0])])
        5.0
    """
    norm_type = float(norm_type)
    if not norm_type > 0:
        raise ConfigError(
            f"norm_type must be above 0 (math.inf for the maximum), got {norm_type!r}"
        )
    return combine_norms([norm_of(grad, norm_type) for grad in grads], norm_type)
