"""The errors a caller can act on.

GainstageError
├── ConfigError       an option or argument has a value that cannot be (also a ValueError)
└── RunFolderError    a run's folder cannot be made or is not one
"""

from __future__ import annotations


class GainstageError(Exception):
    """The root: whatever gainstage raises on purpose."""


class ConfigError(GainstageError, ValueError):
    """An option or argument has a value that cannot be; the message says which would do."""


class RunFolderError(GainstageError):
    """A run's folder cannot be made, or what was named is not one."""
