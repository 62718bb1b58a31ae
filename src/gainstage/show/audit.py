"""The clip audit: what the script's clipping does, in words and shares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gainstage.facts.blocks import StepBlock
from gainstage.facts.observation import (
    ClipAfterStep,
    ClipCalled,
    ClipPartial,
    ClipScaled,
    Observation,
    Observed,
)
from gainstage.facts.run_info import RunInfo
from gainstage.show.wording import near_path

_PERCENTILES = (50, 90, 99)
_FEWEST_STEPS = 20


def clip_audit(
    block: StepBlock,
    observations: Sequence[Observation[Observed]],
    alarm: int | None,
    info: RunInfo,
) -> dict[str, Any]:
    """Return sentences about the clipping, and limits with the share of steps they would touch.

    Args:
        block: All steps.
        observations: What the script was seen to do.
        alarm: The first step with a sign; those before it count as healthy.
        info: Of the run, to shorten paths.
    """
    said = [*_calls(observations, info), *_shares(block)]
    return {
        "said": said or ["nothing in this run clips gradients"],
        "limits": _limits(block, alarm),
    }


def _calls(observations: Sequence[Observation[Observed]], info: RunInfo) -> Iterator[str]:
    for seen in observations:
        where = f"{near_path(seen.file, info)}:{seen.line}" if seen.file else "the script"
        match seen.evidence:
            case ClipCalled(parameters=count, max_norm=max_norm):
                yield f"{where} clips the norm of {count} tensors at {max_norm}"
            case ClipAfterStep():
                yield f"{where} clips after the optimizer has stepped, so nothing is held"
            case ClipScaled():
                yield f"{where} clips gradients that still hold the loss scale: unscale them first"
            case ClipPartial(parameters=clipped, stepped=stepped):
                yield f"{where} clips only {clipped} of the {stepped} tensors stepped"
            case _:
                pass


def _shares(block: StepBlock) -> Iterator[str]:
    coefficient = block.clip_coefficient
    seen = coefficient[~np.isnan(coefficient)]
    if not len(seen):
        return
    active = seen[seen < 1.0]
    share = f"{len(active) / len(seen):.0%}"
    yield f"clipping acted on {len(active):,} of the {len(seen):,} steps it saw ({share})"
    if len(active):
        yield (
            f"effective learning rate where it acted: {100 * np.median(active):.2g}% (median), "
            f"{100 * active.min():.2g}% (worst)"
        )


def _limits(block: StepBlock, alarm: int | None) -> list[list[str]]:
    """Return what each limit would have touched, replayed over the healthy steps on record."""
    norms = block.grad_norm
    known = np.isfinite(norms) & (norms > 0)
    if alarm is not None:
        known &= block.step < alarm
    healthy = norms[known]
    if len(healthy) < _FEWEST_STEPS:
        return []
    rows: list[list[str]] = []
    for percentile in _PERCENTILES:
        limit = float(np.percentile(healthy, percentile))
        share = float((healthy > limit).mean())
        rows.append([f"{limit:.3g}", f"{percentile}th percentile", f"{share:.0%}"])
    return rows
