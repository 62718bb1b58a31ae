"""Norm of one dense CPU tensor, exact over the whole range of its dtype.

torch squares in float32, so its norms are inf once values pass 2^64 and 0 once they fall below
2^-75. Here the fast sum of squares is believed only where neither can have happened; else a scaled
float64 pass decides. Sums run over rows of at most `EXACT_ROW` elements that are then added in
float64: one float32 accumulator over 16 million equal values is wrong by 1%, a row by 4e-7.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

EXACT_ROW: Final = 4096
FAST_ROW: Final = 1 << 17
PIECE: Final = 1 << 20
"""Elements that are widened to float64 at a time, so that the second pass needs no big copy."""
PARALLEL_FROM: Final = 1 << 18
"""From here on torch's row norms, which use its threads, beat one thread of BLAS (measured)."""
PARALLEL_ROW: Final = 1024
"""Long enough for the speed of memory (28 GB/s, as `torch.dot`), short enough to be exact."""

_SMALLEST_SURE: Final = {torch.float32: 2.0**-102, torch.float64: 2.0**-968}
"""Per element: below it, squares lost to underflow could weigh more than 1e-7 of the sum."""
FLOAT32: Final = np.dtype(np.float32)
_NUMPY: Final = {torch.float32: FLOAT32, torch.float64: np.dtype(np.float64)}
_READABLE: Final = frozenset({*_NUMPY, torch.float16, torch.bfloat16})
_CACHED_VIEWS: Final = 16384

Flat = NDArray[np.floating[Any]]
VIEWS: dict[int, Flat] = {}
"""By address. Only for use while the tensor at hand is known to live there (see `view_of`)."""


def view_of(tensor: Tensor, count: int) -> Flat:
    """Return the memory of a contiguous CPU tensor as a flat array, valid while the tensor lives.

    `Tensor.numpy()` would do, but costs ten times as much and marks the storage as not resizable
    for good, which a watched program may notice. Views are cached by address: an allocator hands
    out the same few addresses step after step.

    Args:
        tensor: Contiguous, dense, float32 or float64, on the CPU.
        count: Its number of elements.
    """
    address = tensor.data_ptr()
    view = VIEWS.get(address)
    dtype = _NUMPY[tensor.dtype]
    if view is None or view.size != count or view.dtype != dtype:
        if len(VIEWS) >= _CACHED_VIEWS:
            VIEWS.clear()
        memory = (ctypes.c_byte * (count * dtype.itemsize)).from_address(address)
        view = VIEWS[address] = np.frombuffer(memoryview(memory), dtype=dtype)
    return view


def is_dense_cpu(tensor: Tensor) -> bool:
    """Tell whether `norm_of` can read the tensor: plain, strided, floating, in CPU memory."""
    return (
        type(tensor) is Tensor
        and tensor.is_cpu
        and tensor.dtype in _READABLE
        and tensor.layout is torch.strided
    )


def norm_of(tensor: Tensor, norm_type: float = 2.0, *, row: int = EXACT_ROW) -> float:
    """Return the p-norm of a dense CPU tensor, exact over the whole range of its dtype.

    Args:
        tensor: Floating, strided, any shape and memory order.
        norm_type: p > 0, `math.inf` for the largest magnitude.
        row: Elements summed in the tensor's own precision; relative error grows with it, to about
            4e-7 at 4096 and 1e-5 at 131072 for equal values, and is near 1e-8 for random ones.

    Returns:
        The norm; inf or nan only if an element is (or if it exceeds float64).
    """
    flat = _flat(tensor.detach())
    if flat.numel() == 0:
        return 0.0
    if norm_type == 2.0:
        with np.errstate(all="ignore"):
            return _norm_2(flat, row)
    return _norm_p(flat, norm_type)


def _norm_2(flat: Tensor, row: int) -> float:
    count = flat.numel()
    if flat.dtype in _NUMPY:
        squares = fast_sum_of_squares(flat, count, row)
        if squares < math.inf and squares >= count * _SMALLEST_SURE[flat.dtype]:
            return math.sqrt(squares)
    elif count <= PIECE:
        return _norm_2(flat.to(torch.float32), row)
    return _norm_p(flat, 2.0)


def fast_sum_of_squares(flat: Tensor, count: int, row: int) -> float:
    """Return the sum of squares of a flat float32 or float64 tensor, trusting its range.

    The caller must look at the result: inf, nan, or a value near 0 asks for a second pass.
    """
    if count >= PARALLEL_FROM:
        whole = count - count % PARALLEL_ROW
        rows = torch.linalg.vector_norm(flat[:whole].view(-1, PARALLEL_ROW), dim=1)
        squares = float(torch.dot(wide := rows.double(), wide))
        return squares + (_dot(view_of(flat[whole:], count - whole)) if whole < count else 0.0)
    view = view_of(flat, count)
    if count <= row:
        return _dot(view)
    whole = count - count % row
    table = view[:whole].reshape(-1, row)
    squares = float(np.add.reduce(np.vecdot(table, table), dtype=np.float64))
    return squares + (_dot(view[whole:]) if whole < count else 0.0)


def _dot(view: Flat) -> float:
    return float(view.dot(view))


def _flat(tensor: Tensor) -> Tensor:
    """Return the elements as one dimension, without a copy where memory has no gaps."""
    if tensor.is_contiguous():
        return tensor.view(-1)
    outermost_first = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
    return tensor.permute(outermost_first).reshape(-1)


def _norm_p(flat: Tensor, p: float) -> float:
    """Return the p-norm by scaling with the largest magnitude and summing in float64."""
    low, high = (float(bound) for bound in torch.aminmax(flat))
    largest = max(abs(low), abs(high)) if low == low else math.nan
    if p == math.inf or largest == 0.0 or not math.isfinite(largest):
        return largest
    # A power of two, so that scaling is exact; 1 - exponent keeps subnormals from overflowing it.
    exponent = math.frexp(largest)[1]
    total = 0.0
    for piece in flat.split(PIECE):
        scaled = torch.ldexp(piece.double(), torch.tensor(-exponent)).abs_()
        total += float(torch.dot(scaled, scaled) if p == 2.0 else scaled.pow_(p).sum())
    norm = total ** (1.0 / p)
    return math.ldexp(norm, exponent) if exponent + math.frexp(norm)[1] <= 1024 else math.inf
