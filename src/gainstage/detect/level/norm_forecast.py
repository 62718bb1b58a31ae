"""`overflow-forecast` of the global norm, where it has grown by 5 bits and still grows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gainstage.bits import LARGEST
from gainstage.detect.kind.inputs import StepInput
from gainstage.detect.kind.symptom_kind import Signal, Signals
from gainstage.detect.level.overflow_evidence import forecast_evidence
from gainstage.detect.series.forecast import forecast

NEAR_STEPS = 100
_GROWN_BITS = 5.0
_FARTHEST = 100_000


@dataclass(frozen=True, slots=True)
class NormForecast:
    """State: at which number of steps the next forecast is due."""

    due: int = 0


def update(state: NormForecast, given: StepInput) -> tuple[NormForecast, Signals]:
    """Return a signal where the global norm, in bits, has grown and is on its way to the limit."""
    history, step = given.series.norm, given.step
    if history.recent[-1] - history.reference < _GROWN_BITS or history.count < state.due:
        return state, ()
    # Ever more rarely while it goes on, so that a slow growth costs next to nothing.
    state = NormForecast(history.count + max(2, history.count // 16))
    seen = forecast(list(history.steps), list(history.recent), math.log2(LARGEST[given.dtype]))
    if seen is None or seen.step - step > _FARTHEST:
        return state, ()
    signal = Signal(
        evidence=forecast_evidence(seen, "norm", dtype=given.dtype),
        severity="warning" if seen.step - step <= NEAR_STEPS else "info",
        step=step,
        last_step=step,
    )
    return state, (signal,)
