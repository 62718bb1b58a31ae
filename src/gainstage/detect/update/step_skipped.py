"""`step-skipped`: steps that a loss scaler or a treatment left out, or that no optimizer takes.

A scaler searches for its scale by leaving out the first steps, and tries a larger one every 2000
steps: both are normal. Steps with no row at all are not seen here, only counted by the next row.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from gainstage.detect.series.sign import Sign
from gainstage.facts.blocks import StepBlock
from gainstage.facts.observation import Observation, Observed, ParametersUnstepped

_PIECES = 8
_SHARE = 0.2
_FEWEST = 16
_RUN = 8


@dataclass(slots=True)
class Skipped:
    """Online state: steps left out of late, and in all."""

    recent: deque[tuple[int, int]] = field(
        default_factory=lambda: deque[tuple[int, int]](maxlen=_PIECES)
    )
    """(left out, tried) of the last pieces."""
    total: int = 0
    rows: int = 0
    run: int = 0
    """Treated steps left out one after the other."""
    longest: int = 0


def look(state: Skipped, piece: StepBlock) -> Sign | None:
    """Return a sign where a fifth of the steps of late, or 8 in a row, were left out."""
    scaler = np.where(piece.skipped > 0, piece.skipped, 0)
    if state.rows == 0:
        scaler[0] = 0  # the search for the first scale
    treated = piece.skipped < 0
    for left_out in treated.tolist():
        state.run = state.run + 1 if left_out else 0
        state.longest = max(state.longest, state.run)
    state.longest = max(state.longest, int(scaler.max()))
    out = int(scaler.sum() + treated.sum())
    state.rows += len(piece)
    state.total += out
    state.recent.append((out, len(piece) + int(scaler.sum())))
    if not out:
        return None
    lost, tried = (sum(each) for each in zip(*state.recent, strict=True))
    if (lost < _FEWEST or lost < _SHARE * tried) and state.longest < _RUN:
        return None
    step = int(piece.step[-1])
    who = "a treatment" if treated.any() else "the loss scaler"
    return Sign(
        "step-skipped",
        "gradient",
        "warning",
        step,
        f"{who} left out {lost} of the last {tried} steps, at most {state.longest} in a row",
        last_step=step,
        count=out,
        evidence={
            "share": lost / tried,
            "longest_run": state.longest,
            "left_out": state.total,
        },
    )


def look_at_unheld(seen: Observation[Observed]) -> Sign | None:
    """Return the sign of parameters that no optimizer steps; None of another observation."""
    if not isinstance(seen.evidence, ParametersUnstepped):
        return None
    tensors, of, names = seen.evidence.tensors, seen.evidence.of, seen.evidence.names
    return Sign(
        "step-skipped",
        "gradient",
        "critical",  # a fact: what they are meant to learn is not learnt
        seen.step,
        f"{', '.join(names)}: {tensors} of {of} tensors get gradients and no optimizer steps "
        "them: they were made after it",
        strong=True,
        last_step=seen.step,
        evidence={"form": seen.evidence.kind, "tensors": tensors, "of": of},
    )
