"""What helps against a cause, the simplest first, with settings from the record."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gainstage.diagnose.code_change import (
    clip_changes,
    domain_change,
    dtype_change,
    settings_change,
    unheld_change,
)
from gainstage.diagnose.from_weights import update_ratios
from gainstage.diagnose.weights import Cause
from gainstage.facts.diagnosis import Remedy, Setting
from gainstage.facts.observation import (
    ClipCalled,
    ClipNothing,
    GradientsAccumulated,
    GradientsNotZeroed,
    LossMade,
    OptimizerMade,
    ParametersUnstepped,
)
from gainstage.facts.record import RankRecord

_HEALTHY_STEPS = 20
_USUAL_LIMIT = 1.0
_A_TENTH = 0.1
_USUAL_UPDATE = {"SGD": 0.3}
_ADAMS_UPDATE = 0.02
"""Norm of the first update over that of all weights: Adam's at its usual rate of 1e-3. Plain
gradient descent begins with larger ones, which soon shrink."""
_MUCH = 5.0
"""Times the usual first update, which a training hardly survives."""
_FAR = 8.0
"""A limit that is so many times the largest norm was never meant to act."""


def remedies_for(cause: Cause, record: RankRecord) -> list[Remedy]:
    """Return remedies, to be tried in this order."""
    clip = _remedy(
        "clip-global-norm",
        "the 90th percentile of the norms before the first sign"
        if len(_healthy_norms(record)) >= _HEALTHY_STEPS
        else "a usual limit: there were too few healthy steps to tell a better one",
        max_norm=advised_limit(record),
    )
    slower = _slower(record)
    warm_up = _remedy("warm-up", "the first steps are the dangerous ones", steps=100)
    skip = _remedy("skip-nonfinite", "leaves parameters untouched by the bad steps")
    match cause:
        case "init-scale":
            return [
                _remedy("reinit", "a gain of 1 a layer at the start", kind="he"),
                _remedy("reinit", "a gain of 1 a layer at the start", kind="orthogonal"),
                clip,
            ]
        case "recurrent-gain":
            reinit = _remedy("reinit", "recurrent weights of gain 1", kind="orthogonal")
            # A script that clips already has tried the first of these.
            clips = bool((record.block.clip_coefficient < 1).any())
            return [reinit, slower, clip] if clips else [clip, reinit, slower]
        case "learning-rate":
            return [slower, clip, warm_up]
        case "residual-growth":
            return [
                clip,
                warm_up,
                _remedy("reinit", "branches scaled by 1/√(2L)", kind="residual"),
                _remedy("insert-norm", "what each branch adds is held", kind="layer"),
                slower,
            ]
        case "bad-data":
            return [skip, _remedy("fix-data", "the sample itself is not usable"), clip]
        case "numeric-op":
            return [skip, _remedy("code-change", domain_change(record.fault))]
        case "dtype-overflow":
            module = None if record.fault is None else record.fault.site.module
            return [
                _remedy(
                    "fp32-module",
                    "float32 has the headroom",
                    **({"module": module} if module else {}),
                ),
                _remedy("code-change", dtype_change(record.fault)),
                skip,
            ]
        case "clip-misuse":
            why = "clip all gradients, before the step and at a limit within their reach"
            clip = _remedy("clip-global-norm", why, max_norm=_own_limit(record))
            return [clip, *(_remedy("code-change", change) for change in clip_changes(record))]
        case "loss-reduction":
            why = "the loss is a sum, not a mean"
            return [clip, _remedy("lower-lr", why, factor=_mean_factor(record))]
        case "grad-accumulation":
            left = record.first(GradientsNotZeroed) is not None
            what = (
                "call zero_grad before backward"
                if left or record.first(GradientsAccumulated) is None
                else "divide each loss by the number of backward calls that add up for a step"
            )
            return [_remedy("code-change", what), clip]
        case "normalization":
            return [_remedy("code-change", "bound the spread from below, or use layer norm"), skip]
        case "unbounded-objective":
            return [
                _remedy("code-change", "bound the objective, such as by clamping weights"),
                slower,
            ]
        case "optimizer-config":
            made, fault = record.first(OptimizerMade), record.fault
            has_no_eps = made is not None and made.evidence.settings.eps == 0
            if has_no_eps or (fault is not None and fault.kind == "update"):
                return [_remedy("raise-eps", "the update divides by zero", eps=1e-8), slower]
            unheld = record.first(ParametersUnstepped)
            if unheld is not None:
                return [_remedy("code-change", unheld_change(unheld, made))]
            return [
                _remedy("code-change", settings_change(made)),
                clip,
                slower,
            ]


def _slower(record: RankRecord) -> Remedy:
    """Return a tenth of the learning rate, or less where even that update would be far off."""
    ratios, _, _ = update_ratios(record)
    made = record.first(OptimizerMade)
    kind = "" if made is None else made.evidence.class_name
    usual = _USUAL_UPDATE.get(kind, _ADAMS_UPDATE)
    first = float(ratios[0]) if len(ratios) and record.block.step[0] == 0 else 0.0
    if not math.isfinite(first) or _A_TENTH * first <= _MUCH * usual:
        why = "the updates are too large for the loss's curvature"
        return _remedy("lower-lr", why, factor=_A_TENTH)
    why = f"the first update is {first:.2g} times the weights, and would be {usual:.0%} of them"
    return _remedy("lower-lr", why, factor=float(f"{usual / first:.0e}"))


def _mean_factor(record: RankRecord) -> float:
    """Return what makes the gradient of a sum that of a mean."""
    seen = record.first(LossMade)
    summed = 1 if seen is None else seen.evidence.summed_elements
    if summed < 2:
        return 0.01
    return float(f"{1 / summed:.3g}")


def advised_limit(record: RankRecord) -> float:
    """Return the 90th percentile of the norms before the first sign (the tuning playbook).

    Where those are too few to tell, 1: what recurrent nets are clipped at.
    """
    healthy = _healthy_norms(record)
    return float(np.percentile(healthy, 90)) if len(healthy) >= _HEALTHY_STEPS else _USUAL_LIMIT


def _healthy_norms(record: RankRecord) -> NDArray[np.float64]:
    alarm, block = record.alarm_step, record.block
    healthy = block.grad_norm[block.step < (alarm if alarm is not None else 0)]
    return healthy[np.isfinite(healthy)]


def _own_limit(record: RankRecord) -> float:
    seen = record.first(ClipCalled) or record.first(ClipNothing)
    limit = None if seen is None else seen.evidence.max_norm
    if limit is None or limit <= 0:
        return _USUAL_LIMIT
    norms = record.block.grad_norm[np.isfinite(record.block.grad_norm)]
    is_far = len(norms) > 0 and limit > _FAR * float(norms.max())
    return advised_limit(record) if is_far else float(limit)


def _remedy(remedy: str, why: str, **settings: Setting) -> Remedy:
    return Remedy(remedy, settings, why)
