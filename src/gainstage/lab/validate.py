"""What a reader may give: dtypes by name, and numbers that must be what they should be."""

from __future__ import annotations

import math

import torch

from gainstage.errors import ConfigError

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
