"""Remedies that several causes share, with settings from the record."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gainstage.diagnose.evidence.weights import update_ratios
from gainstage.facts.blocks import StepBlock
from gainstage.facts.diagnosis import Remedy
from gainstage.facts.observation import ClipCalled, ClipNothing, OptimizerMade
from gainstage.facts.record import RankRecord

SKIP = Remedy("skip-nonfinite", why="leaves parameters untouched by the bad steps")
WARM_UP = Remedy("warm-up", {"steps": 100}, "the first steps are the dangerous ones")

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


def clip(record: RankRecord) -> Remedy:
    """Return a clip of the global norm at the advised limit."""
    healthy = _healthy_norms(record.block, record.alarm_step)
    return Remedy(
        "clip-global-norm",
        {"max_norm": advised_limit(record.block, record.alarm_step)},
        "the 90th percentile of the norms before the first sign"
        if len(healthy) >= _HEALTHY_STEPS
        else "a usual limit: there were too few healthy steps to tell a better one",
    )


def slower(record: RankRecord) -> Remedy:
    """Return a tenth of the learning rate, or less where even that update would be far off."""
    ratios, _, _ = update_ratios(record)
    made = record.first(OptimizerMade)
    kind = "" if made is None else made.evidence.class_name
    usual = _USUAL_UPDATE.get(kind, _ADAMS_UPDATE)
    first = float(ratios[0]) if len(ratios) and record.block.step[0] == 0 else 0.0
    if not math.isfinite(first) or _A_TENTH * first <= _MUCH * usual:
        why = "the updates are too large for the loss's curvature"
        return Remedy("lower-lr", {"factor": _A_TENTH}, why)
    why = f"the first update is {first:.2g} times the weights, and would be {usual:.0%} of them"
    return Remedy("lower-lr", {"factor": float(f"{usual / first:.0e}")}, why)


def advised_limit(block: StepBlock, alarm_step: int | None) -> float:
    """Return the 90th percentile of the norms before the first sign (the tuning playbook).

    Where there are fewer than 20 of them, 1: what recurrent nets are clipped at.
    """
    healthy = _healthy_norms(block, alarm_step)
    return float(np.percentile(healthy, 90)) if len(healthy) >= _HEALTHY_STEPS else _USUAL_LIMIT


def own_limit(record: RankRecord) -> float:
    """Return the limit that the script clips at, or the advised one where that is far too high."""
    clipped = record.first(ClipCalled) or record.first(ClipNothing)
    limit = None if clipped is None else clipped.evidence.max_norm
    if limit is None or limit <= 0:
        return _USUAL_LIMIT
    norms = record.block.grad_norm[np.isfinite(record.block.grad_norm)]
    is_far = len(norms) > 0 and limit > _FAR * float(norms.max())
    return advised_limit(record.block, record.alarm_step) if is_far else float(limit)


def _healthy_norms(block: StepBlock, alarm_step: int | None) -> NDArray[np.float64]:
    healthy = block.grad_norm[block.step < (alarm_step if alarm_step is not None else 0)]
    return healthy[np.isfinite(healthy)]
