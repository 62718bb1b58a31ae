"""`loss-divergence`: the loss has left what the run has known, upward or downward without end.

Scale-free and for losses of either sign: heights are measured in units of what the loss has ranged
over so far, not in units of the loss. Four ways to leave: far above and rising; above for good;
worse than untrained after it had been good; below zero and falling ever faster.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from gainstage.bits import theil_sen
from gainstage.detect.series.history import CHUNK, History
from gainstage.detect.series.sign import Sign

_FEWEST = 4
_RANGES = 3.0
"""A catapult overshoots by about the range itself before it comes down (Lewkowycz 2020)."""
_NOISES = 20.0
_STRONG_RATIO = 100.0
_FEW = 24
_LONG = 8
_DROP = 0.5
_FASTER = 3.0
"""A quadratic falls 4 times as far in the later half as in the quarter before, a line twice."""
_BEYOND = 8.0
_EIGHTHS = 8
_SECOND_BITS = 2.0
"""What the gradient must have grown by, to be the second sign."""


@dataclass(slots=True)
class Divergence:
    """Online state: the range of the loss while it was healthy."""

    lowest: float = 0.0
    highest: float = 0.0
    start: float = 0.0
    """Median of the first three losses."""
    is_out: bool = False
    """Whether the latest loss is above all bounds."""


def look(
    state: Divergence,
    history: History,
    step: int,
    norm: History | None = None,
    fall: History | None = None,
) -> Sign | None:
    """Return a sign if the last losses have left the range before them.

    Args:
        state: Changed.
        history: The loss, this step's included.
        step: This step.
        norm: The gradient's norm in bits up to the step before, the second sign where there is one.
        fall: By how much the updates up to here can have lowered the loss, where that is known.
    """
    value = history.recent[-1]
    if history.count <= 3:
        _learn_start(state, history)
        return None
    reach = _reach(state, history)
    state.is_out = value > reach
    if history.count % CHUNK == 0:
        sign = _falls_ever_faster(state, history, norm, fall, step) or _unlearnt(
            state, history, norm, step
        )
        if sign is not None:
            return sign
    if not state.is_out:
        # Only medians widen the range: one high loss is no new ceiling, nor is a slow rise.
        if history.count % 8 == 0 and history.count <= 64:
            state.highest = max(state.highest, min(statistics.median(history.last(8)), reach))
        state.lowest = min(state.lowest, statistics.median(history.last(5)))
        return None
    return _above(state, history, reach, step)


def _learn_start(state: Divergence, history: History) -> None:
    value = history.recent[-1]
    if history.count == 1:
        state.lowest = state.highest = value
    state.lowest = min(state.lowest, value)
    state.highest = max(state.highest, min(max(history.recent), state.highest))
    state.start = history.origin


def _reach(state: Divergence, history: History) -> float:
    # Few losses are a poor guide to what the next may be.
    ranges = _RANGES * max(1.0, _FEW / history.count)
    return state.highest + max(
        ranges * (state.highest - state.lowest),
        _NOISES * history.noise,
        ranges * abs(state.highest),
    )


def _above(state: Divergence, history: History, reach: float, step: int) -> Sign | None:
    last = history.last(_FEWEST)
    middle = statistics.median(last)
    if middle <= reach:
        return None
    stays = history.count > _LONG and min(history.last(_LONG)) > state.highest
    if theil_sen(range(len(last)), last) <= 0 and not stays:
        return None
    unit = max(state.highest - state.lowest, abs(state.highest), 1e-30)
    height = (middle - state.highest) / unit
    return _sign(
        step,
        f"the loss is {history.recent[-1]:.3g} at step {step} and {'stays' if stays else 'rising'};"
        f" the run had known at most {state.highest:.3g}",
        strong=height >= _STRONG_RATIO or (height >= _RANGES and history.count > _LONG),
        form="above",
        loss=history.recent[-1],
        highest_before=state.highest,
        height_in_ranges=height,
    )


def _unlearnt(state: Divergence, history: History, norm: History | None, step: int) -> Sign | None:
    """Return a sign if the loss was far below its start and now stays above it."""
    best = min(history.chunks)
    drop = state.start - best
    last = history.last(2 * CHUNK)
    if history.count < 4 * CHUNK or drop <= _DROP * max(
        abs(state.start), _NOISES / 2 * history.noise
    ):
        return None
    low, high = statistics.median(last[:CHUNK]), statistics.median(last[CHUNK:])
    # A curve that comes down again, as after a change of task, is on its way back.
    if min(low, high) < state.start + _DROP / 2 * drop or high < low - 0.1 * drop:
        return None
    grown = 0.0 if norm is None or not norm.count else norm.median(CHUNK) - norm.level
    return _sign(
        step,
        f"the loss stays at {high:.3g}, worse than untrained ({state.start:.3g}), after it had "
        f"been {best:.3g}; the gradient norm is {grown:+.1f} bits from its level",
        strong=True,
        critical=grown >= _SECOND_BITS,
        form="unlearnt",
        loss=high,
        loss_at_start=state.start,
        lowest=best,
        gradient_bits=grown,
    )


def _falls_ever_faster(
    state: Divergence, history: History, norm: History | None, fall: History | None, step: int
) -> Sign | None:
    """Return a sign if the loss is far below zero and its fall has more than tripled twice over.

    What falls farther than its own updates can have lowered it is lowered by something else: an
    actor's loss falls as its critic learns what the states are worth.
    """
    is_short = len(history.chunks) < _EIGHTHS
    chunks = _eighths(history) if is_short else history.chunks
    if len(chunks) < _EIGHTHS or chunks[-1] >= 0:
        return None
    now, half, quarter = chunks[-1], chunks[len(chunks) // 2], chunks[len(chunks) // 4]
    size = max(abs(state.start), abs(chunks[0]), state.highest - chunks[0])
    if quarter <= half or half - now < _FASTER * (quarter - half) or -now < _BEYOND * size:
        return None
    own = [] if fall is None else _eighths(fall) if is_short else fall.chunks
    if len(own) == len(chunks) and half - now > own[-1] - own[len(own) // 2]:
        return None
    grown = 0.0 if norm is None or not norm.chunks else norm.chunks[-1] - norm.chunks[0]
    return _sign(
        step,
        f"the loss falls ever faster, from {chunks[0]:.3g} to {now:.3g}: it has no lower bound; "
        f"the gradient norm has grown {grown:.1f} bits",
        strong=True,
        critical=grown >= _SECOND_BITS,
        form="unbounded",
        loss=now,
        loss_at_start=state.start,
        fall_ratio=(half - now) / (quarter - half),
        gradient_bits=grown,
    )


def _eighths(history: History) -> list[float]:
    """Return medians of eighths of a run so short that all of it is remembered."""
    values = list(history.recent)
    if history.count > len(values) or len(values) < 4 * _EIGHTHS:
        return []
    size = len(values) // _EIGHTHS
    return [statistics.median(values[i * size : (i + 1) * size]) for i in range(_EIGHTHS)]


def _sign(
    step: int, message: str, *, strong: bool, critical: bool = False, **evidence: float | str
) -> Sign:
    return Sign(
        "loss-divergence",
        "loss",
        "critical" if critical else "warning",
        step,
        message,
        strong=strong,
        last_step=step,
        evidence=evidence,
    )
