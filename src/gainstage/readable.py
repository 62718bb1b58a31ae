"""The gate through which every tensor of a script is read: whether it can be, and which part."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from gainstage.facts.observation import Refusal

PLAIN = (Tensor, Parameter)
_NO_DISPATCH: Any = getattr(Tensor, "__torch_dispatch__", None)
"""What a class has that leaves dispatching to torch."""

LEFT_OUT: Counter[Refusal] = Counter()
"""How often this process has left out a tensor that it was to read, by reason."""


def readable(tensor: Tensor) -> Tensor | None:
    """Return what can be read of a tensor: itself, a DTensor's local part, or None and counted.

    What is returned is dense and whole in memory, and no operation on it leaves this process.
    """
    part = local_part(tensor)
    refusal = refusal_of(part)
    if refusal is None:
        return part
    LEFT_OUT[refusal] += 1
    return None


def is_readable(tensor: Tensor) -> bool:
    """Tell whether a tensor itself is plain, dense, and whole in memory. Counts where it is not."""
    refusal = refusal_of(tensor)
    if refusal is not None:
        LEFT_OUT[refusal] += 1
    return refusal is None


def has_memory(tensor: Tensor) -> bool:
    """Tell whether a plain tensor, dense or sparse, has all its numbers in memory. Counts, too."""
    refusal = refusal_of(tensor)
    if refusal is None or refusal == "layout":
        return True
    LEFT_OUT[refusal] += 1
    return False


def refusal_of(tensor: Tensor) -> Refusal | None:
    """Return why a tensor cannot be read, None where it can. Some µs; waits for no device."""
    kind = type(tensor)
    if kind not in PLAIN and getattr(kind, "__torch_dispatch__", None) is not _NO_DISPATCH:
        return "dispatches"
    if tensor.is_meta:
        return "meta"
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):  # pyright: ignore
        return "functional"
    if tensor.is_cuda and is_capturing():
        return "capturing"
    if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized:
        return "layout"
    return None if _is_whole(tensor) else "no-memory"


def local_part(tensor: Tensor) -> Tensor:
    """Return what this process holds of a DTensor; any other tensor as it is."""
    if type(tensor) in PLAIN or not is_distributed(tensor):
        return tensor
    local: Tensor = tensor._local_tensor  # pyright: ignore
    return local


def whole_part(tensor: Tensor) -> Tensor | None:
    """Return what `readable` does where that is all of the tensor; None of one process's share."""
    if type(tensor) not in PLAIN and is_distributed(tensor):
        placements: Any = tensor.placements  # pyright: ignore
        if not all(placement.is_replicate() for placement in placements):
            LEFT_OUT["share"] += 1
            return None
    return readable(tensor)


def is_distributed(tensor: Tensor) -> bool:
    """Tell whether a tensor is one process's share of a DTensor, without importing what that is."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def is_capturing() -> bool:
    """Tell whether the current stream is being captured into a CUDA graph: ask it nothing then."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def _is_whole(tensor: Tensor) -> bool:
    """Tell whether the storage is as large as the view says."""
    if not tensor.numel():
        return True
    span = tensor.numel()
    if not tensor.is_contiguous():
        steps = zip(tensor.shape, tensor.stride(), strict=True)
        span = 1 + sum((size - 1) * stride for size, stride in steps)
    end = (tensor.storage_offset() + span) * tensor.element_size()
    return end <= tensor.untyped_storage().nbytes()
