"""Levels and their slopes, in bits (DESIGN 7)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gainstage.bits import theil_sen
from gainstage.errors import ConfigError
from gainstage.norms.sums import norm_of

DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}
"""By torch's names; `dtype_named` takes fp16, bf16, fp32 and fp64 as well."""
_SHORT = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32", "fp64": "float64"}


def dtype_named(name: str) -> torch.dtype:
    """Return the floating dtype of a name.

    Raises:
        ConfigError: If there is none.
    """
    found = DTYPES.get(_SHORT.get(name, name))
    if found is None:
        raise ConfigError(f"no dtype {name!r}; there are {', '.join([*DTYPES, *_SHORT])}")
    return found


def level_bits(tensor: Tensor) -> float:
    """Return log2 of a tensor's root mean square: -inf for zeros, inf or nan if an entry is."""
    rms = norm_of(tensor.detach()) / math.sqrt(max(1, tensor.numel()))
    return log2(rms)


def log2(value: float) -> float:
    """Return log2 of a magnitude, with -inf for 0; inf and nan stay what they are."""
    return math.log2(value) if 0 < value < math.inf else (-math.inf if value == 0 else value)


def slope_bits(levels: Sequence[float]) -> float:
    """Return the Theil-Sen slope of finite levels over their stages, in bits a stage."""
    finite = [(i, level) for i, level in enumerate(levels) if math.isfinite(level)]
    return theil_sen([i for i, _ in finite], [level for _, level in finite])


def positive(name: str, value: float) -> float:
    """Return a number that must be finite and above 0.

    Raises:
        ConfigError: If it is not.
    """
    if not 0 < value < math.inf:
        raise ConfigError(f"{name} must be a number above 0, got {value!r}")
    return value


def finite(name: str, value: float) -> float:
    """Return a number that must be finite.

    Raises:
        ConfigError: If it is not.
    """
    if not math.isfinite(value):
        raise ConfigError(f"{name} must be a finite number, got {value!r}")
    return value


def counted(name: str, value: int, most: int, least: int = 1) -> int:
    """Return a count that must lie between `least` and `most`.

    Raises:
        ConfigError: If it does not.
    """
    if not least <= value <= most:
        raise ConfigError(f"{name} must be between {least} and {most}, got {value!r}")
    return value
