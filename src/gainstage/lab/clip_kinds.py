"""The kinds of clipping that the lab sets side by side: one row each, added in `KINDS` alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gainstage.treat.clip import (
    AutoClip,
    UpdateClip,
    ZClip,
    clip_adaptive_,
    clip_by_global_norm_,
    clip_by_value_,
    clip_per_group_,
    clip_per_parameter_,
)

HISTORY = 50
"""Calm steps before the one that is shown, for the kinds that remember."""
_LR = 0.1

Parameters = Sequence[torch.nn.Parameter]
Clipper = Callable[[Parameters, float], object]
"""Takes parameters with gradients and the threshold; changes the gradients in place."""


@dataclass(frozen=True, slots=True)
class ClipKind:
    """One kind of clipping."""

    name: str
    clip: Clipper
    limits: str
    """What is bounded, and by what."""


def calm_norms(max_norm: float) -> list[float]:
    """Return the norms of the stated history: even steps from half of the threshold up to it."""
    return [max_norm * (0.5 + 0.5 * i / (HISTORY - 1)) for i in range(HISTORY)]


def _by_maximum(parameters: Parameters, limit: float) -> None:
    clip_by_global_norm_(parameters, limit, norm_type=math.inf)


def _per_group(parameters: Parameters, limit: float) -> None:
    groups = [{"params": [parameter]} for parameter in parameters]
    clip_per_group_(torch.optim.SGD(groups, lr=_LR), limit)


def _by_percentile(parameters: Parameters, limit: float) -> None:
    AutoClip(norms=calm_norms(limit)).clip_(parameters)


def _by_outlier(parameters: Parameters, limit: float) -> None:
    clip = ZClip()
    for norm in calm_norms(limit):
        clip.limit_of(norm)
    clip.clip_(parameters)


def _by_update(parameters: Parameters, limit: float) -> None:
    """Take a step of SGD, clip it, and leave in place of the gradient what it came to."""
    clip, sgd = UpdateClip(), torch.optim.SGD(parameters, lr=_LR)
    before = [parameter.detach().clone() for parameter in parameters]
    clip.before(sgd)
    sgd.step()
    clip.clip_(sgd)
    for parameter, old in zip(parameters, before, strict=True):
        parameter.grad = (old - parameter.detach()) / _LR


KINDS = (
    ClipKind("global 2-norm", clip_by_global_norm_, "norm of all gradients"),
    ClipKind("global max-norm", _by_maximum, "largest entry, by scaling all"),
    ClipKind("value", clip_by_value_, "every entry, by cutting"),
    ClipKind("per parameter", clip_per_parameter_, "norm of each tensor"),
    ClipKind("per group", _per_group, "norm of each parameter group; here each tensor is one"),
    ClipKind(
        "adaptive (AGC)",
        clip_adaptive_,
        "norm of each unit over norm of its weights; that is 1 here",
    ),
    ClipKind("AutoClip", _by_percentile, "norm of all, by the 10th percentile of norms so far"),
    ClipKind("ZClip", _by_outlier, "norm of all, where it is an outlier of its moving mean"),
    ClipKind("update (SGD)", _by_update, "rms of each tensor's update / lr, by 1 for any max_norm"),
)


def clipped(
    kind: ClipKind, weights: Sequence[Tensor], grads: Sequence[Tensor], limit: float
) -> list[Tensor]:
    """Return what a kind of clipping makes of gradients, which stay as they are."""
    parameters = [torch.nn.Parameter(weight.clone()) for weight in weights]
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = grad.clone()
    kind.clip(parameters, limit)
    return [parameter.grad for parameter in parameters if parameter.grad is not None]
