"""Which tensors of a script can be read: asked before every read of one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

_PLAIN = (Tensor, Parameter)
_NO_DISPATCH: Any = getattr(Tensor, "__torch_dispatch__", None)
"""What a class has that leaves dispatching to torch."""


def is_readable(tensor: Tensor) -> bool:
    """Tell whether a tensor is plain, dense, and whole in memory. Some µs; waits for no device.

    Not so are sparse and nested tensors, subclasses that dispatch (`DTensor`, fake tensors), those
    that a function transform wraps, and those whose memory was let go, as FSDP does.
    """
    if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized:
        return False
    return has_memory(tensor)


def has_memory(tensor: Tensor) -> bool:
    """Tell whether all numbers of a tensor, dense or sparse, lie in memory of its own device."""
    if tensor.is_meta or _dispatches(tensor):
        return False
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):  # pyright: ignore
        return False
    return tensor.layout is not torch.strided or _is_whole(tensor)


def _dispatches(tensor: Tensor) -> bool:
    kind = type(tensor)
    return kind not in _PLAIN and getattr(kind, "__torch_dispatch__", None) is not _NO_DISPATCH


def _is_whole(tensor: Tensor) -> bool:
    """Tell whether the storage is as large as the view says."""
    if tensor.is_nested or not tensor.numel():
        return True
    span = tensor.numel()
    if not tensor.is_contiguous():
        steps = zip(tensor.shape, tensor.stride(), strict=True)
        span = 1 + sum((size - 1) * stride for size, stride in steps)
    end = (tensor.storage_offset() + span) * tensor.element_size()
    return end <= tensor.untyped_storage().nbytes()
