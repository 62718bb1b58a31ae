"""The compiled reading of a step's gradients, where this installation has it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeAlias

import torch
from torch import Tensor

PlainNorms: TypeAlias = Callable[
    [list[Tensor], type[Tensor], torch.dtype], tuple[list[float | None], float] | None
]


def _compiled() -> PlainNorms | None:
    if find_spec("gainstage.norms._native") is None:
        return None
    module: Any = import_module("gainstage.norms._native")
    return module.plain_norms


plain_norms = _compiled()
"""Takes parameters, `Tensor` and `float32`; returns the 2-norm of each gradient and of all, or None
where one of them is not dense, float32 and on the CPU. None itself where it was not compiled: the
same numbers come from `small_norms` then, in twice the time."""
