"""torch's clipping functions again: the same bits for the script, a record for us, less work.

The script's `clip_grad_norm_` computes every norm a monitor wants and then throws it away. These
replacements run the same torch kernels on the same tensors, so norm and gradients come out bit for
bit alike, and leave out what changes nothing: regrouping tensors that are all of one kind, and
multiplying by 1. Whatever is not a plain list of dense CPU gradients goes to torch's own function.
"""

from __future__ import annotations

import functools
import math
import operator
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gainstage.norms.clip import clip_coefficient
from gainstage.norms.deferred import Number, deferred_norms, is_distributed
from gainstage.norms.sums import is_dense_cpu
from gainstage.norms.total import gradient_norms

_CLEARLY_IDLE = 1.01
"""The limit must exceed the norm by this factor before the multiplication is left out: wide enough
for the rounding of a bfloat16 division, which would give exactly 1 all the same."""
_SMALLEST_SURE = 2.0**-35
_DTYPE = operator.attrgetter("dtype")
_LAYOUT = operator.attrgetter("layout")
_REQUIRES_GRAD = operator.attrgetter("requires_grad")
_IS_CPU = operator.attrgetter("is_cpu")


class Clipped(NamedTuple):
    """What a clipping call saw before it wrote; a tuple, which is made in a fifth of the time."""

    parameters: list[Tensor]
    """Those that had a gradient."""
    norms: Sequence[Number]
    """2-norm of each gradient before clipping; on an accelerator a 0-d tensor there."""
    max_norm: Number
    """None for clipping by value."""
    coefficient: Number
    total: float | None = None
    """2-norm of all together where the call has found it; then all else here is floats, too."""


@dataclass(frozen=True, slots=True)
class _Read:
    """Norms computed for a total, valid while that tensor lives and its gradients are unwritten."""

    total: weakref.ref[Tensor]
    state: list[tuple[int, int]]
    norms: list[float | None]


Record = Callable[[Clipped], None]


def replacements(originals: dict[str, Callable[..., Any]], record: Record) -> dict[str, Any]:
    """Return stand-ins for the functions of `torch.nn.utils.clip_grad`, by name.

    Args:
        originals: torch's `clip_grad_norm_`, `clip_grad_value_`, `_get_total_norm` and
            `_clip_grads_with_norm_`.
        record: Called with what was seen, after the norm is known and before anything is written.
    """
    torch_clip = originals["clip_grad_norm_"]
    torch_value = originals["clip_grad_value_"]
    torch_total = originals["_get_total_norm"]
    torch_scale = originals["_clip_grads_with_norm_"]
    latest: list[_Read] = []
    """The norms behind the last total that was handed out."""

    @_without_our_frames
    @functools.wraps(torch_total)
    def get_total_norm(
        tensors: Tensor | Iterable[Tensor],
        norm_type: float = 2.0,
        error_if_nonfinite: bool = False,
        foreach: bool | None = None,
    ) -> Tensor:
        grads = _listed(tensors)
        if not _plain(grads, foreach):
            return torch_total(grads, norm_type, error_if_nonfinite, foreach)
        total, each = _torch_norms(grads, float(norm_type))
        value = total.item()
        if error_if_nonfinite and not math.isfinite(value):
            return torch_total(grads, norm_type, error_if_nonfinite, foreach)
        norms, _ = _as_2_norms(grads, each, value, float(norm_type))
        latest[:] = [_Read(weakref.ref(total), _state(grads), norms)]
        return total

    @_without_our_frames
    @functools.wraps(torch_scale)
    def clip_grads_with_norm_(
        parameters: Tensor | Iterable[Tensor],
        max_norm: float,
        total_norm: Tensor,
        foreach: bool | None = None,
    ) -> None:
        listed = _with_gradient(_listed(parameters))
        grads: list[Tensor] = [p.grad for p in listed]  # pyright: ignore[reportAssignmentType]
        read = latest.pop() if latest else None
        if read is not None and read.total() is total_norm and read.state == _state(grads):
            norms = read.norms
        else:
            norms = _norms_anywhere(grads)
        if not (_plain(grads, foreach) and total_norm.is_cpu) or total_norm.requires_grad:
            record(Clipped(listed, norms, float(max_norm), _coefficient(max_norm, total_norm)))
            torch_scale(listed, max_norm, total_norm, foreach)
            return
        value = total_norm.item()
        coefficient = clip_coefficient(float(max_norm), value)
        record(Clipped(listed, norms, float(max_norm), coefficient))
        _scale_as_torch(grads, float(max_norm), total_norm, value)

    @_without_our_frames
    @functools.wraps(torch_clip)
    def clip_grad_norm_(
        parameters: Tensor | Iterable[Tensor],
        max_norm: float,
        norm_type: float = 2.0,
        error_if_nonfinite: bool = False,
        foreach: bool | None = None,
    ) -> Tensor:
        listed = _listed(parameters)
        grads = [grad for p in listed if (grad := p.grad) is not None]
        if not grads:
            record(Clipped([], [], float(max_norm), None))
        if not _plain(grads, foreach):
            # Also the empty generator, of which torch warns; it is exhausted, yet still one.
            return torch_clip(
                listed or parameters, max_norm, norm_type, error_if_nonfinite, foreach
            )
        limit, norm_type = float(max_norm), float(norm_type)
        total, each = _torch_norms(grads, norm_type)
        value = total.item()
        if error_if_nonfinite and not math.isfinite(value):
            return torch_clip(listed, max_norm, norm_type, error_if_nonfinite, foreach)
        owners = listed if len(listed) == len(grads) else _with_gradient(listed)
        norms, norm = _as_2_norms(grads, each, value, norm_type)
        record(Clipped(owners, norms, limit, clip_coefficient(limit, value), norm))
        _scale_as_torch(grads, limit, total, value)
        return total

    @_without_our_frames
    @functools.wraps(torch_value)
    def clip_grad_value_(
        parameters: Tensor | Iterable[Tensor],
        clip_value: float,
        foreach: bool | None = None,
    ) -> None:
        listed = _listed(parameters)
        owners = _with_gradient(listed)
        grads = [p.grad for p in owners]
        record(Clipped(owners, _norms_anywhere(grads), None, None))
        torch_value(listed, clip_value, foreach)

    return {
        "clip_grad_norm_": clip_grad_norm_,
        "clip_grad_value_": clip_grad_value_,
        "_get_total_norm": get_total_norm,
        "_clip_grads_with_norm_": clip_grads_with_norm_,
    }


def _coefficient(max_norm: float, total_norm: Tensor) -> Number:
    """Return the factor that torch will scale by; on an accelerator a tensor there."""
    if is_distributed(total_norm):
        return None  # its value is a sum over processes
    if total_norm.is_cpu:
        return clip_coefficient(float(max_norm), total_norm.item())
    return torch.clamp(max_norm / (total_norm.detach() + 1e-6), max=1.0)


def _norms_anywhere(grads: Sequence[Tensor | None]) -> Sequence[Number]:
    on_cpu = all(grad is None or grad.is_cpu for grad in grads)
    return gradient_norms(grads)[0] if on_cpu else deferred_norms(grads)


def _without_our_frames(function: Callable[..., Any]) -> Callable[..., Any]:
    """Take this file's frames out of the traceback of an error that passes through.

    Removing the entry and raising again adds none: Python notes a frame only on the first raise.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            trace = error.__traceback__
            while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
                trace = trace.tb_next
            error.__traceback__ = trace
            raise

    return call


def _listed(tensors: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


def _with_gradient(parameters: list[Tensor]) -> list[Tensor]:
    return [p for p in parameters if p.grad is not None]


def _state(grads: Sequence[Tensor]) -> list[tuple[int, int]]:
    return [(id(grad), grad._version) for grad in grads]


def _plain(grads: Sequence[Tensor], foreach: bool | None) -> bool:
    """Tell whether torch would treat the gradients as one group on the CPU, by its foreach path."""
    if not grads or not (foreach is None or foreach):
        return False
    # One call of C for all gradients at a time: after a backward pass Python's own is slow.
    kinds = set(zip(map(type, grads), map(_DTYPE, grads), map(_LAYOUT, grads), strict=True))
    if len(kinds) > 1 or any(map(_REQUIRES_GRAD, grads)) or not all(map(_IS_CPU, grads)):
        return False
    return is_dense_cpu(grads[0])


def _torch_norms(grads: list[Tensor], norm_type: float) -> tuple[Tensor, list[float]]:
    """Return torch's total norm and the norms it is made of, by torch's own kernels."""
    each = torch.stack(torch._foreach_norm(grads, norm_type))
    return torch.linalg.vector_norm(each, norm_type), each.tolist()


def _as_2_norms(
    grads: Sequence[Tensor], each: list[float], total: float, norm_type: float
) -> tuple[list[float | None], float | None]:
    """Return the record's norms and total: torch's if they can be believed, read again if not."""
    if norm_type == 2.0 and min(each) > _SMALLEST_SURE and total < math.inf:
        return each, total  # pyright: ignore[reportReturnType]
    return gradient_norms(grads)


def _scale_as_torch(grads: list[Tensor], max_norm: float, total_norm: Tensor, value: float) -> None:
    """Multiply by torch's clamped coefficient, unless that is 1 beyond doubt.

    Args:
        grads: What is scaled.
        max_norm: The limit.
        total_norm: torch's norm.
        value: The same as a number.
    """
    if max_norm > _CLEARLY_IDLE * value + 2e-6:
        return
    coefficient = torch.clamp(max_norm / (total_norm + 1e-6), max=1.0)
    torch._foreach_mul_(grads, coefficient)
