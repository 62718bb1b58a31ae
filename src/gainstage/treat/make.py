"""Treatments from their specs."""

from __future__ import annotations

from typing import Any

from gainstage.errors import ConfigError
from gainstage.treat.clip.history import AutoClip, ZClip
from gainstage.treat.clip.treatments import (
    ClipAdaptive,
    ClipByHistory,
    ClipGlobalNorm,
    ClipUpdate,
    ClipValue,
)
from gainstage.treat.code_change import CodeChange
from gainstage.treat.model.fp32_module import Fp32Module
from gainstage.treat.model.insert_norm import InsertNorm
from gainstage.treat.model.reinit import Reinit
from gainstage.treat.optimizer.scale_loss import ScaleLoss
from gainstage.treat.optimizer.skip import SkipNonfinite
from gainstage.treat.optimizer.step_size import CoolDown, LowerLr, RaiseEps, WarmUp
from gainstage.treat.treatment import Spec, Treatment


def make(spec: Spec) -> Treatment:
    """Return a new treatment for a spec.

    Raises:
        ConfigError: If there is no such remedy.
    """
    treatment = _make(spec.remedy, spec.values())
    treatment.spec = spec
    return treatment


def _make(remedy: str, values: dict[str, Any]) -> Treatment:
    match remedy:
        case "clip-global-norm":
            return ClipGlobalNorm(**values)
        case "clip-value":
            return ClipValue(**values)
        case "clip-adaptive":
            return _clip_adaptive(**values)
        case "lower-lr" if values["after"] == "spike":
            return CoolDown(values["factor"], values["for"], values["z"])
        case "lower-lr":
            return LowerLr(values["factor"])
        case "warm-up":
            return WarmUp(**values)
        case "reinit":
            return Reinit(**values)
        case "insert-norm":
            return InsertNorm(**values)
        case "skip-nonfinite":
            return SkipNonfinite()
        case "raise-eps":
            return RaiseEps(**values)
        case "fp32-module":
            return Fp32Module(**values)
        case "scale-loss":
            return ScaleLoss(**values)
        case "code-change":
            return CodeChange(**values)
        case _:
            raise ConfigError(f"no remedy {remedy!r}")


def _zclip(alpha: float, z: float, warm_up: float, max_norm: float) -> ZClip:
    return ZClip(alpha, z, int(warm_up), max_norm)


def _clip_adaptive(kind: str, **values: Any) -> Treatment:
    match kind:
        case "autoclip":
            return ClipByHistory(AutoClip(**values))
        case "zclip":
            return ClipByHistory(_zclip(**values))
        case "update":
            return ClipUpdate(**values)
        case _:
            return ClipAdaptive(**values)
