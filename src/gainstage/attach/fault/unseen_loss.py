"""A loss that stopped the script before any backward call saw it, such as `if loss.isnan(): break`.

Its graph is whole as long as a variable holds it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor

from gainstage.attach.names.parameters import user_frames, variables_in
from gainstage.readable import is_readable

Scope = Mapping[str, Any]
"""Variables by name."""


def bad_losses(scopes: Iterable[Scope]) -> list[Tensor]:
    """Return the tensors of one element, not finite, that hang on a graph. Waits for a device."""
    found: dict[int, Tensor] = {}
    for scope in scopes:
        for value in list(scope.values()):
            # `isinstance` would ask objects that pretend to be something else.
            if issubclass(type(value), Tensor) and _is_bad(value):
                found[id(value)] = value
    return list(found.values())


def _is_bad(value: Tensor) -> bool:
    if value.grad_fn is None or value.numel() != 1 or not is_readable(value):
        return False
    with torch.no_grad():
        return not bool(torch.isfinite(value.detach()).all())


def scopes_of(frame: FrameType | None) -> list[Scope]:
    """Return the variables of the script's running functions, and of its main module."""
    return [*(variables_in(each) for each in user_frames(frame)), *_globals()]


def scopes_of_error(trace: TracebackType | None) -> Iterator[Scope]:
    """Yield the variables of the functions that an error went through."""
    while trace is not None:
        yield variables_in(trace.tb_frame)
        trace = trace.tb_next


def _globals() -> Iterator[Scope]:
    main = sys.modules.get("__main__")
    if main is not None:
        yield vars(main)
