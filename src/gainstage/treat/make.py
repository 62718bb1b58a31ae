"""Treatments from their specs."""

from __future__ import annotations

from gainstage.errors import ConfigError
from gainstage.treat.clip import ClipGlobalNorm
from gainstage.treat.lower_lr import LowerLr
from gainstage.treat.skip import SkipNonfinite
from gainstage.treat.treatment import Spec, Treatment


def make(spec: Spec) -> Treatment:
    """Return a new treatment for a spec.

    Raises:
        ConfigError: If there is no such remedy.
    """
    match spec.remedy:
        case "clip-global-norm":
            return ClipGlobalNorm(**spec.settings)
        case "lower-lr":
            return LowerLr(**spec.settings)
        case "skip-nonfinite":
            return SkipNonfinite()
        case _:
            raise ConfigError(f"no remedy {spec.remedy!r}")
