"""Seeing inside compiled code on sampled steps, by running it eagerly there (`--deep-compiled`).

That rounds otherwise than the compiled code does, so it is done only where the user asks.
"""

from __future__ import annotations

import gc
import sys
from typing import Any

import torch


class EagerForwards:
    """Has compiled code run eagerly during the forward passes to come, until `end`."""

    def __init__(self) -> None:
        self._stance: Any = None

    @property
    def is_on(self) -> bool:
        """Tell whether compiled code runs eagerly by our doing."""
        return self._stance is not None

    def begin(self) -> None:
        """Begin."""
        if self._stance is None:
            self._stance = torch.compiler.set_stance("force_eager")

    def end(self) -> None:
        """Go back to what was in force before, as a backward call begins."""
        if self._stance is not None:
            stance, self._stance = self._stance, None
            stance.__exit__(None, None, None)


def has_compiled() -> bool:
    """Tell whether this process has compiled anything by now, or is about to.

    torch imports its compiler as soon as an optimizer is made; that alone says nothing.
    """
    frames: Any = sys.modules.get("torch._dynamo.convert_frame")
    if frames is None:
        return False
    return bool(frames.FRAME_COUNTER) or any(
        type(each).__name__ == "OptimizedModule" for each in gc.get_objects()
    )
