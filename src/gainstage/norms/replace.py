"""torch's clipping functions again: the same bits for the script, a record for us, less work.

The script's `clip_grad_norm_` computes every norm a monitor wants and then throws it away. These
replacements run the same torch kernels on the same tensors, so norm and gradients come out bit for
bit alike, and leave out what changes nothing: regrouping tensors that are all of one kind, and
multiplying by 1. Whatever is not a plain list of dense CPU gradients goes to torch's own function.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gainstage.norms.clip import clip_coefficient
from gainstage.norms.deferred import Number, deferred_norms
from gainstage.norms.sums import is_dense_cpu
from gainstage.norms.total import gradient_norms
from gainstage.readable import is_distributed

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
Finish = Callable[[], Any]
"""Does the writing part of a call, and returns its result."""


def replacements(
    originals: dict[str, Callable[..., Any]],
    record: Record,
    on_fault: Callable[[BaseException], None],
) -> dict[str, Any]:
    """Return stand-ins for the functions of `torch.nn.utils.clip_grad`, by name.

    Args:
        originals: torch's `clip_grad_norm_`, `clip_grad_value_`, `_get_total_norm` and
            `_clip_grads_with_norm_`.
        record: Called with what was seen, after the norm is known and before anything is written.
        on_fault: Called with an error of our own, after torch's function has done the work.
    """
    ours = _Replacements(record)
    prepared = {
        "clip_grad_norm_": ours.clip_by_norm,
        "clip_grad_value_": ours.clip_by_value,
        "_get_total_norm": ours.total_norm,
        "_clip_grads_with_norm_": ours.scale,
    }
    return {name: _stand_in(originals[name], each, on_fault) for name, each in prepared.items()}


def _stand_in(
    torch_function: Callable[..., Any],
    prepare: Callable[..., Finish | None],
    on_fault: Callable[[BaseException], None],
) -> Callable[..., Any]:
    """Return a function that does what torch's does, by ours where that works.

    Args:
        torch_function: Does the work where an error stops ours; where it raises that error as
            well, the error is the script's.
        prepare: Takes the arguments with the first one listed. Reads and records, writes nothing;
            returns None where torch's function is to do the work.
        on_fault: Called with an error that torch's function does not raise.
    """
    first_name = next(iter(inspect.signature(torch_function).parameters))

    @functools.wraps(torch_function)
    def stand_in(*args: Any, **kwargs: Any) -> Any:
        if not args and first_name in kwargs:
            args = (kwargs.pop(first_name),)
        if not args:
            return torch_function(**kwargs)
        first, *rest = args
        listed = _listed(first)
        fault: Exception | None = None
        try:
            finish = prepare(listed, *rest, **kwargs)
        except Exception as error:
            finish, fault = None, error
        if finish is not None:
            return finish()
        # An empty generator is passed on, for torch warns of it: exhausted it is one still.
        result = torch_function(listed or first, *rest, **kwargs)
        if fault is not None:
            on_fault(fault)
        return result

    return stand_in


class _Replacements:
    """The preparing parts of the four functions: each reads and records, and says how to finish."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._latest: _Read | None = None
        """The norms behind the last total that was handed out."""

    def total_norm(
        self,
        grads: list[Tensor],
        norm_type: float = 2.0,
        error_if_nonfinite: bool = False,
        foreach: bool | None = None,
    ) -> Finish | None:
        if not _plain(grads, foreach):
            return None
        total, each = _torch_norms(grads, float(norm_type))
        value = total.item()
        if error_if_nonfinite and not math.isfinite(value):
            return None
        norms, _ = _as_2_norms(grads, each, value, float(norm_type))
        self._latest = _Read(weakref.ref(total), _state(grads), norms)
        return lambda: total

    def scale(
        self,
        parameters: list[Tensor],
        max_norm: float,
        total_norm: Tensor,
        foreach: bool | None = None,
    ) -> Finish | None:
        listed = _with_gradient(parameters)
        grads: list[Tensor] = [p.grad for p in listed]  # pyright: ignore[reportAssignmentType]
        read, self._latest = self._latest, None
        if read is not None and read.total() is total_norm and read.state == _state(grads):
            norms = read.norms
        else:
            norms = _norms_anywhere(grads)
        limit = float(max_norm)
        if not (_plain(grads, foreach) and total_norm.is_cpu) or total_norm.requires_grad:
            self._record(Clipped(listed, norms, limit, _coefficient(max_norm, total_norm)))
            return None
        value = total_norm.item()
        self._record(Clipped(listed, norms, limit, clip_coefficient(limit, value)))
        return functools.partial(_scale_as_torch, grads, limit, total_norm, value)

    def clip_by_norm(
        self,
        listed: list[Tensor],
        max_norm: float,
        norm_type: float = 2.0,
        error_if_nonfinite: bool = False,
        foreach: bool | None = None,
    ) -> Finish | None:
        grads = [grad for p in listed if (grad := p.grad) is not None]
        if not grads:
            self._record(Clipped([], [], float(max_norm), None))
        if not _plain(grads, foreach):
            return None
        limit, norm_type = float(max_norm), float(norm_type)
        total, each = _torch_norms(grads, norm_type)
        value = total.item()
        if error_if_nonfinite and not math.isfinite(value):
            return None
        owners = listed if len(listed) == len(grads) else _with_gradient(listed)
        norms, norm = _as_2_norms(grads, each, value, norm_type)
        self._record(Clipped(owners, norms, limit, clip_coefficient(limit, value), norm))

        def finish() -> Tensor:
            _scale_as_torch(grads, limit, total, value)
            return total

        return finish

    def clip_by_value(
        self, listed: list[Tensor], clip_value: float, foreach: bool | None = None
    ) -> None:
        owners = _with_gradient(listed)
        self._record(Clipped(owners, _norms_anywhere([p.grad for p in owners]), None, None))
        return None


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
