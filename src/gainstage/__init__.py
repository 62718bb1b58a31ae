"""gainstage finds out why a neural network's training blew up, and fixes it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gainstage.attach.check.check import check
    from gainstage.attach.watch import Watch, watch
    from gainstage.errors import ConfigError, GainstageError, RunFolderError
    from gainstage.norms.clip import clip_grad_norm_
    from gainstage.show.gain_profile import GainProfile
    from gainstage.show.notebook import Run, load

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "GainProfile",
    "GainstageError",
    "Run",
    "RunFolderError",
    "Watch",
    "check",
    "clip_grad_norm_",
    "load",
    "watch",
]

_HOME = {
    "ConfigError": "gainstage.errors",
    "GainProfile": "gainstage.show.gain_profile",
    "GainstageError": "gainstage.errors",
    "Run": "gainstage.show.notebook",
    "RunFolderError": "gainstage.errors",
    "Watch": "gainstage.attach.watch",
    "check": "gainstage.attach.check.check",
    "clip_grad_norm_": "gainstage.norms.clip",
    "load": "gainstage.show.notebook",
    "watch": "gainstage.attach.watch",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: torch alone takes seconds to import."""
    if name not in _HOME:
        raise AttributeError(f"module 'gainstage' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
