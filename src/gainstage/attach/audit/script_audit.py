"""What the script does with losses, gradients and optimizers, in which order, and on which lines.

Nearly each kind of thing is observed once; afterwards it costs a comparison.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gainstage.attach.audit.loss_reduction import loss_made
from gainstage.attach.names.parameters import user_frames
from gainstage.facts.fault import Site
from gainstage.facts.observation import (
    BackwardCalled,
    BatchNormOfFew,
    ClipAfterStep,
    ClipCalled,
    ClipDuplicates,
    ClipNothing,
    ClipPartial,
    ClipScaled,
    GradientsAccumulated,
    GradientsNotZeroed,
    LogNearZero,
    Observation,
    Observed,
    OptimizerMade,
    OptimizerSettings,
    OptimizerStepped,
)
from gainstage.graph.autopsy.log_margin import LogMargin
from gainstage.graph.nodes.saved import saved
from gainstage.graph.operations.table import operation_named, operation_of
from gainstage.norms.replace import Clipped

_CLIPS_LOOKED_AT = 8
_LOG_BITS, _LOG_STEP_BITS = 4.0, 0.5
_TIMES_LEFT = 2
"""How often gradients that were left are noted: once may be a slip of the first step."""
_FEW_VALUES = 8
"""Fewer values a channel make statistics of noise (the textbook's rule for batch norm)."""

Place = tuple[str | None, int | None]
"""File and line."""
_ClipKind = type[ClipCalled | ClipAfterStep | ClipScaled | ClipDuplicates]


class ScriptAudit:
    """Observes the script's calls. One a process, in the training thread."""

    def __init__(self, observe: Callable[[Observation[Observed]], None]) -> None:
        """Begin with nothing seen.

        Args:
            observe: Takes each observation, when it is made.
        """
        self._observe = observe
        self._seen: set[type[Observed]] = set()
        self.left: tuple[int, Place, set[int]] | None = None
        """Gradients that were there as a sampled backward call began: the step to come, the place
        of the call, and ids of the leaves."""
        self._times_left = 0
        self._stepped: set[int] = set()
        self._clips = 0
        self._clipped: set[int] = set()
        """Ids of what was clipped since it was last stepped, by whatever calls together."""
        self._clip_site: Place = (None, None)
        self._clip_limit: float | None = None
        self._empty_clip: tuple[Place, float | None] | None = None
        """Where a clipping call since the last step found no gradient, and its limit."""
        self._has_acted_late = False
        self._log_bits: dict[tuple[str | None, int | None, float], float] = {}
        self._optimizers: set[int] = set()
        self.step_site: Place = (None, None)
        """File and line at which the script steps."""

    @property
    def has_clipped_nothing(self) -> bool:
        """Tell whether a clipping call since the last step has found no gradient."""
        return self._empty_clip is not None

    def on_optimizer(self, optimizer: Optimizer) -> None:
        """Note an optimizer when it is made, with its settings and the line."""
        if id(optimizer) in self._optimizers:
            return
        self._optimizers.add(id(optimizer))
        settings = _settings(optimizer.defaults)
        self._note(0, OptimizerMade(class_name=type(optimizer).__name__, settings=settings))

    def on_step(self, step: int, ids: Collection[int], optimizer: Optimizer | None) -> None:
        """Note where the script steps, and whether with gradients that it has stepped with before.

        Args:
            step: Its index.
            ids: Of the parameters that are stepped.
            optimizer: That steps, None where the script does it by hand.
        """
        if OptimizerStepped not in self._seen:
            self.step_site = caller()
            groups = [] if optimizer is None else optimizer.param_groups
            given = (group.get("lr") for group in groups)
            rates = len({rate for rate in given if isinstance(rate, (int, float))})
            self._note(step, OptimizerStepped(rates=None if rates < 2 else rates))
        if self._empty_clip is not None:
            if self._clipped.isdisjoint(ids) and ClipNothing not in self._seen:
                site, limit = self._empty_clip
                self._note(step, ClipNothing(max_norm=limit, stepped=len(ids)), site)
            self._empty_clip = None
        if self._clipped:
            self._compare_clipped(step, set(ids))
        key = id(optimizer)
        if self.left is not None and key in self._stepped:
            seen_at, place, leaves = self.left
            mine = leaves.intersection(ids)
            if mine:
                self._times_left += 1
                left = GradientsNotZeroed(tensors=len(mine), of=len(ids), times=self._times_left)
                self._note(seen_at, left, place)
        self._stepped.add(key)

    def _compare_clipped(self, step: int, stepped: set[int]) -> None:
        """Note clipping calls that together have left out a part of what is stepped."""
        clipped = self._clipped & stepped
        self._clipped -= stepped
        if ClipPartial in self._seen or not clipped or clipped == stepped:
            return
        part = ClipPartial(max_norm=self._clip_limit, parameters=len(clipped), stepped=len(stepped))
        self._note(step, part, self._clip_site)

    def on_norms(self, step: int, nodes: Iterable[Any]) -> None:
        """Note a batch norm whose statistics come from few values, as a graph with sites shows it.

        Args:
            step: The step to come.
            nodes: Of the graph.
        """
        if BatchNormOfFew in self._seen:
            return
        for node in nodes:
            if operation_of(node).batch_statistics and getattr(node, "_saved_training", True):
                taken = saved(node, "input")
                if isinstance(taken, Tensor) and taken.dim() > 1:
                    values = taken.numel() // max(1, taken.shape[1])
                    if values < _FEW_VALUES:
                        self._note(step, BatchNormOfFew(values=values, batch=taken.shape[0]))
                        return

    def on_backward(self, step: int, roots: Iterable[Tensor]) -> None:
        """Note where the script calls backward, and on what."""
        if BackwardCalled in self._seen:
            return
        self._note(step, BackwardCalled())
        for root in roots:
            self._note(step, loss_made(root))

    def on_accumulation(self, step: int, calls: int, roots: Iterable[Tensor]) -> None:
        """Note that several backward calls add up for one step, and whether the loss is divided.

        Args:
            step: The step to come.
            calls: Backward calls since the last step, this one included.
            roots: What this one is called on.
        """
        if GradientsAccumulated in self._seen:
            return
        names = [root.grad_fn.name() for root in roots if root.grad_fn is not None]
        divided = any(operation_named(name).scales for name in names)
        self._note(step, GradientsAccumulated(calls=calls, divided=divided))

    def on_fresh_graph(self, step: int, leaves: Sequence[Tensor]) -> None:
        """Look for gradients that an earlier step has left; on sampled steps only.

        They tell nothing yet: of a generator's backward call, the discriminator's gradients are
        left too, but are not stepped with.

        Args:
            step: The step to come, the first backward call since the last one.
            leaves: Those whose gradients this call will add to.
        """
        if step == 0 or self._times_left >= _TIMES_LEFT:
            return
        with torch.no_grad():
            left = {
                id(leaf)
                for leaf in leaves
                if leaf.grad is not None and leaf.grad.is_cpu and bool((leaf.grad != 0).any())
            }
        if left:
            self.left = step, caller(), left

    def on_log(self, step: int, site: Site | None, margin: LogMargin) -> None:
        """Note the smallest argument of a logarithm, each time it is half a bit smaller than ever.

        Args:
            step: The step to come.
            site: Of the logarithm, where known.
            margin: Of a sampled graph.
        """
        if site is None or margin.bits < _LOG_BITS:
            return
        # A line may hold two: of p and of 1 - p.
        key = (site.file, site.line, margin.limit_bits)
        if margin.bits < self._log_bits.get(key, 0.0) + _LOG_STEP_BITS:
            return
        self._log_bits[key] = margin.bits
        near = LogNearZero(bits=margin.bits, limit_bits=margin.limit_bits)
        self._note(step, near, (site.file, site.line))

    def on_empty_clip(self, max_norm: float | None) -> None:
        """Note a clipping call that was given nothing with a gradient: an iterator used up."""
        if ClipNothing not in self._seen:
            self._empty_clip = caller(), max_norm

    def on_clip(
        self,
        step: int,
        clipped: Clipped,
        *,
        is_after_step: bool,
        scale: float,
    ) -> None:
        """Note a clipping call, and whether it comes at a time when it cannot do what it is for.

        Args:
            step: The step to come.
            clipped: What it saw.
            is_after_step: Whether no backward call has come since the last step.
            scale: The loss scale that the gradients still hold, 1 for none.
        """
        self._clips += 1
        ids = list(map(id, clipped.parameters))
        limit = clipped.max_norm if isinstance(clipped.max_norm, (int, float)) else None
        kinds: dict[_ClipKind, float] = {}
        if self._clips <= _CLIPS_LOOKED_AT:
            self._clipped.update(ids)
            self._clip_site, self._clip_limit = caller(), limit
            kinds[ClipCalled] = 1.0
            if len(set(ids)) < len(ids):
                kinds[ClipDuplicates] = _counted_twice(ids, clipped)
        if is_after_step:
            kinds[ClipAfterStep] = 1.0
        if scale != 1.0:
            kinds[ClipScaled] = scale
        acts = isinstance(clipped.coefficient, float) and clipped.coefficient < 1.0
        if is_after_step and acts and not self._has_acted_late:
            # Once more than the others: a clip that never acts does no harm where it stands.
            self._has_acted_late = True
            self._seen.discard(ClipAfterStep)
        for kind, ratio in kinds.items():
            if kind not in self._seen:
                clip = kind(max_norm=limit, parameters=len(ids), ratio=ratio, acts=acts)
                self._note(step, clip)

    def _note(self, step: int, observed: Observed, place: Place | None = None) -> None:
        """Hand over an observation; the place is the script's innermost call if none is given."""
        self._seen.add(type(observed))
        self._observe(Observation(observed, step, *(place or caller())))


def _counted_twice(ids: Sequence[int], clipped: Clipped) -> float:
    """Return by how much the norm is too large for tensors that were given more than once."""
    norms = [norm if isinstance(norm, (int, float)) else 0.0 for norm in clipped.norms]
    whole = math.hypot(*norms)
    once = math.hypot(*dict(zip(ids, norms, strict=True)).values())
    return whole / once if once > 0 and math.isfinite(whole) else 1.0


def caller() -> Place:
    """Return file and line of the script's innermost call that led here."""
    frame = next(user_frames(sys._getframe()), None)
    return (None, None) if frame is None else (frame.f_code.co_filename, frame.f_lineno)


def _settings(defaults: Mapping[str, Any]) -> OptimizerSettings:
    betas, eps = defaults.get("betas"), defaults.get("eps")
    return OptimizerSettings(
        lr=_number(defaults.get("lr")),
        momentum=_number(defaults.get("momentum")),
        betas=_numbers(betas) if isinstance(betas, (tuple, list)) else None,
        eps=_numbers(eps) if isinstance(eps, (tuple, list)) else _number(eps),
        weight_decay=_number(defaults.get("weight_decay")),
        alpha=_number(defaults.get("alpha")),
        nesterov=_flag(defaults.get("nesterov")),
        maximize=_flag(defaults.get("maximize")),
    )


def _number(value: object) -> float | None:
    if isinstance(value, Tensor):
        return value.item() if value.is_cpu and value.numel() == 1 else None
    return value if isinstance(value, (int, float)) else None


def _numbers(values: Iterable[object]) -> tuple[float | None, ...]:
    return tuple(map(_number, values))


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None
