"""The compiled reading of a step's gradients, where this installation has it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeAlias

from torch import Tensor

PlainNorms: TypeAlias = Callable[[list[Tensor]], tuple[list[float | None], float] | None]
PlainValue: TypeAlias = Callable[[Tensor], float | None]


def _compiled() -> tuple[PlainNorms, PlainValue] | tuple[None, None]:
    if find_spec("gainstage.norms._native") is None:
        return None, None
    module: Any = import_module("gainstage.norms._native")
    return (module.plain_norms, module.plain_value) if module.begin(Tensor) else (None, None)


plain_norms, plain_value = _compiled()
"""The first takes parameters, and returns the 2-norm of each gradient and of all together; None
where one of them is not dense, float32 and on the CPU. The second takes a tensor, and returns its
value; None where it is not one such element. Both are None themselves where they were not compiled,
or torch has no DLPack exchange API: torch gives the same numbers then, in twice the time."""
