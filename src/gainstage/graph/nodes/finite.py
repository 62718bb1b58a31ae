"""Which non-finite values a tensor holds, and how large its finite ones are."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gainstage.facts.fault import NonfiniteValue
from gainstage.readable import has_memory


class Status(NamedTuple):
    """Whether a tensor holds NaN, and whether it holds inf of either sign."""

    nan: bool
    inf: bool

    @property
    def finite(self) -> bool:
        """Return whether it holds neither."""
        return not (self.nan or self.inf)

    def holds(self, value: NonfiniteValue) -> bool:
        """Return whether it holds a value."""
        return self.nan if value == "nan" else self.inf


FINITE = Status(nan=False, inf=False)


def numbers(tensor: Tensor) -> Tensor:
    """Return a tensor's numbers as real ones: the values of a sparse one, both parts of complex."""
    plain = tensor.detach()
    if plain.layout is torch.sparse_coo:
        plain = plain._values()
    elif plain.layout is not torch.strided:
        plain = plain.values()
    return torch.view_as_real(plain.resolve_conj()) if plain.is_complex() else plain


def status_of(tensor: Tensor) -> Status | None:
    """Return what the tensor holds; None where it cannot be read. One pass, no copy.

    Waits for the device.
    """
    if not (tensor.is_floating_point() or tensor.is_complex()) or not tensor.numel():
        return FINITE
    if not has_memory(tensor):
        return None
    try:
        real = numbers(tensor)
        if real.element_size() == 1:
            real = real.float()
        low, high = (float(end) for end in torch.aminmax(real))
        if not math.isnan(low):
            return Status(nan=False, inf=math.isinf(low) or math.isinf(high))
        return Status(nan=True, inf=bool(torch.isinf(real).any()))
    except (RuntimeError, NotImplementedError, TypeError):  # nested, or of a dtype without order
        return None


def is_finite(tensor: Tensor) -> bool:
    """Tell whether a tensor holds no NaN and no inf, or cannot be read. Waits for the device."""
    status = status_of(tensor)
    return status is None or status.finite


def largest(tensor: Tensor) -> float:
    """Return the largest finite magnitude; 0 for an empty tensor."""
    if not tensor.numel():
        return 0.0
    real = numbers(tensor)
    if not real.is_floating_point():
        return float(real.abs().max())
    return float(torch.nan_to_num(real.double(), nan=0.0, posinf=0.0, neginf=0.0).abs().max())


def nonfinite(tensor: Tensor) -> Tensor:
    """Return a mask of the elements that are NaN or inf."""
    plain = tensor.detach()
    if plain.layout is not torch.strided:
        plain = plain.to_dense()
    return ~torch.isfinite(plain)


def dtype_name(dtype: torch.dtype) -> str:
    """Return torch's name of a dtype without the prefix, such as `float16`."""
    return str(dtype).removeprefix("torch.")


def largest_finite(dtype: torch.dtype) -> float | None:
    """Return the largest finite value of a dtype; None for one of integers."""
    return torch.finfo(dtype).max if dtype.is_floating_point or dtype.is_complex else None
