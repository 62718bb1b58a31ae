"""The kinds of clipping as treatments: `clip-global-norm`, `clip-value`, `clip-adaptive`."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from gainstage.norms.clip import clip_coefficient, scale_gradients_
from gainstage.norms.total import combine_norms
from gainstage.treat.clip.functions import clip_adaptive_, clip_by_value_
from gainstage.treat.clip.fused import FusedClip, unscale
from gainstage.treat.clip.history import AutoClip, ZClip
from gainstage.treat.clip.norms_of import norms_of
from gainstage.treat.clip.update import UpdateClip
from gainstage.treat.optimizer.per_optimizer import PerOptimizer
from gainstage.treat.treatment import Step, Treatment


class ClipGlobalNorm(Treatment):
    """`clip_by_global_norm_`, or the same for each parameter or each parameter group."""

    def __init__(self, max_norm: float = 1.0, norm_type: float = 2.0, per: str = "all") -> None:
        super().__init__()
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.per = per
        self._fused = FusedClip()

    def treat(self, step: Step) -> None:
        """Clip, and tell the step by how much."""
        if step.grad_norm is None:
            return
        if self.per == "all" and self.norm_type == 2.0:
            if step.grad_norm < math.inf:
                # The norm is known already, and a factor need not know the loss scale.
                coefficient = clip_coefficient(self.max_norm, step.grad_norm)
                if coefficient < 1.0 and not self._fused.take(step, coefficient):
                    scale_gradients_(step.present(), coefficient, foreach=None)
                step.note_clip(coefficient, self.max_norm)
                self.touched += coefficient < 1.0
            return
        before = step.grad_norm
        clipped = False
        for grads in self._together(step):
            norm = combine_norms(norms_of(grads, self.norm_type), self.norm_type)
            if math.isfinite(norm):
                coefficient = clip_coefficient(self.max_norm, norm)
                scale_gradients_(grads, coefficient, foreach=None)
                clipped = clipped or coefficient < 1.0
        _note(step, before, clipped)
        self.touched += clipped

    def end(self, optimizer: Any) -> None:
        """Take back what the optimizer was told to divide by."""
        self._fused.give_back()

    def _together(self, step: Step) -> list[list[Any]]:
        """Return the gradients in the parts whose norm is taken together."""
        unscale(step)
        if self.per == "all":
            return [step.present()]
        if self.per == "parameter":
            return [[grad] for grad in step.present()]
        parts: list[list[Any]] = []
        rest: Sequence[Any] = step.grads
        for size in step.group_sizes():
            parts.append([grad for grad in rest[:size] if grad is not None])
            rest = rest[size:]
        return parts


class ClipValue(Treatment):
    """`clip_by_value_`."""

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.value = value

    def treat(self, step: Step) -> None:
        """Limit every entry where one can be beyond: the norm tells for most steps that none is."""
        if step.grad_norm is None or step.grad_norm <= self.value:
            return
        unscale(step)
        before = step.grad_norm
        clip_by_value_(step.parameters, self.value)
        clipped = _note(step, before, True)
        self.touched += clipped


class ClipAdaptive(Treatment):
    """`clip_adaptive_`: AGC, unit by unit."""

    def __init__(self, clipping: float = 0.01, eps: float = 1e-3) -> None:
        super().__init__()
        self.clipping = clipping
        self.eps = eps

    def treat(self, step: Step) -> None:
        """Clip the units whose gradient is large beside their weights."""
        if step.grad_norm is None:
            return
        unscale(step)
        clipped = clip_adaptive_(step.parameters, self.clipping, eps=self.eps) > 0
        _note(step, step.grad_norm, clipped)
        self.touched += clipped


class ClipByHistory(Treatment):
    """`AutoClip` or `ZClip`, each optimizer with a history of its own.

    An optimizer with a closure adds the norm of each call of it to the history.
    """

    def __init__(self, kind: AutoClip | ZClip) -> None:
        super().__init__()
        self._histories: PerOptimizer[AutoClip | ZClip] = PerOptimizer(
            functools.partial(_copy_of, kind)
        )

    def treat(self, step: Step) -> None:
        """Clip at the limit that earlier norms give."""
        if step.grad_norm is None:
            return
        limit = self._histories.of(step.optimizer).limit_of(step.grad_norm)
        if not math.isfinite(step.grad_norm) or limit == math.inf:
            return
        coefficient = clip_coefficient(limit, step.grad_norm)
        scale_gradients_(step.present(), coefficient, foreach=None)
        step.note_clip(coefficient, limit)
        self.touched += coefficient < 1.0

    def state_dict(self) -> dict[str, Any]:
        """Return the histories."""
        return self._histories.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from saved histories."""
        self._histories.load_state_dict(state)


class ClipUpdate(Treatment):
    """`UpdateClip`: not the gradient is clipped but what the optimizer makes of it."""

    def __init__(self, rms: float = 1.0) -> None:
        super().__init__()
        self._clip = UpdateClip(rms)
        self._is_noted = False

    def treat(self, step: Step) -> None:
        """Note the parameters as they are before the step, and the rate with which it is made."""
        if not self._is_noted:
            self._clip.before(step.optimizer)
            self._is_noted = True

    def end(self, optimizer: Any) -> None:
        """Shorten the updates that are too long."""
        if self._is_noted:
            self._is_noted = False
            self.touched += self._clip.clip_(optimizer) > 0


def _note(step: Step, before: float, clipped: bool) -> bool:
    """Tell the record by how much the norm fell; return whether it did."""
    if not clipped:
        return False
    step.grad_norm = combine_norms(norms_of(step.present()), 2.0)
    after = step.grad_norm
    if 0.0 < before < math.inf and math.isfinite(after):
        step.grad_norm = before
        step.note_clip(min(1.0, after / before))
        return after < before
    return True


def _copy_of(kind: AutoClip | ZClip) -> AutoClip | ZClip:
    if isinstance(kind, AutoClip):
        return AutoClip(kind.percentile)
    return ZClip(kind.alpha, kind.z, kind.warm_up, kind.max_norm)
