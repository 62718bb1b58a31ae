"""Growth along a recurrence, from the levels of one sampled graph."""

from __future__ import annotations

import numpy as np
import pytest

from gainstage.detect.level.time_gain import time_gains
from gainstage.facts.blocks import TimeBlock


def block(delta_bits: list[float]) -> TimeBlock:
    count = len(delta_bits)
    zeros = np.zeros(count, np.int32)
    return TimeBlock(
        step=np.zeros(count, np.int64),
        series=zeros,
        site=zeros,
        layer=zeros,
        reverse=zeros,
        depth=zeros,
        time_step=np.arange(count, dtype=np.int32),
        hidden_bits=np.zeros(count, np.float32),
        delta_bits=np.array(delta_bits, np.float32),
    )


def test_what_has_faded_to_the_smallest_number_is_not_taken_for_steady() -> None:
    # As a GRU's over 400 time steps: it falls by a bit a step, then stays at 2^-149.
    (gain,) = time_gains(block([max(-149.0, -float(i)) for i in range(400)][::-1]))
    assert gain.slope_bits == pytest.approx(-1.0)
    assert gain.memory_horizon == pytest.approx(24.0)


def test_growth_is_that_of_the_levels_between_the_ends_of_float32() -> None:
    (gain,) = time_gains(block([127.0 - 2.0 * i for i in range(100)]))
    assert gain.slope_bits == pytest.approx(2.0)
    assert gain.steps_to_overflow == pytest.approx(0.5, abs=1e-3)


def test_nothing_is_said_of_what_lies_below_the_numbers_altogether() -> None:
    assert list(time_gains(block([-149.0] * 50))) == []
