"""How many steps lie between two samples."""

from __future__ import annotations

import itertools

import pytest

from gainstage.attach.sample.cadence import DECIDED_AT, Cadence, power_above


class Clock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run(cadence: Cadence, clock: Clock, steps: range, *, step_s: float, cost_s: float) -> list[int]:
    """Return which steps were sampled of a run; the first four are in any case."""
    sampled: list[int] = []
    for step in steps:
        clock.now += step_s
        if step < 4 or cadence.is_due(step):
            sampled.append(step)
            cadence.on_cost(cost_s, is_due=step >= 4)
            clock.now += cost_s
        cadence.on_step(step)
    return sampled


def decided(step_s: float, cost_s: float, share: float = 0.01) -> int | None:
    clock = Clock()
    cadence = Cadence(share, clock=clock)
    run(cadence, clock, range(DECIDED_AT + 1), step_s=step_s, cost_s=cost_s)
    return cadence.interval


def test_the_interval_is_what_the_share_pays_for() -> None:
    assert decided(step_s=0.01, cost_s=0.00009) == 1
    assert decided(step_s=0.01, cost_s=0.0011) == 16
    assert decided(step_s=0.01, cost_s=0.01) == 256


@pytest.mark.parametrize("noise", [0.75, 1.3])
def test_noise_of_the_clock_does_not_move_what_is_sampled(noise: float) -> None:
    assert decided(step_s=0.01, cost_s=0.004) == decided(step_s=0.01 * noise, cost_s=0.004)


def test_one_slow_step_or_one_dear_sample_does_not_count() -> None:
    clock = Clock()
    cadence = Cadence(0.01, clock=clock)
    for step in range(DECIDED_AT + 1):
        clock.now += 5.0 if step == 0 else 0.01
        if step < 4:
            cadence.on_cost(3.0 if step == 0 else 0.0011)
        cadence.on_step(step)
    assert cadence.interval == 16


def test_networks_that_step_in_turn_are_all_sampled() -> None:
    clock = Clock()
    cadence = Cadence(0.01, clock=clock)
    sampled = run(cadence, clock, range(600), step_s=0.01, cost_s=0.0011)[4:]
    for networks in (2, 3, 4):
        assert {step % networks for step in sampled} == set(range(networks))


def test_samples_take_no_more_than_their_share_and_not_far_less() -> None:
    clock = Clock()
    cadence = Cadence(0.01, clock=clock)
    run(cadence, clock, range(DECIDED_AT + 1), step_s=0.01, cost_s=0.003)
    began = clock.now
    sampled = run(cadence, clock, range(DECIDED_AT + 1, 20_000), step_s=0.01, cost_s=0.003)
    share = len(sampled) * 0.003 / (clock.now - began)
    assert 0.01 / 4 < share < 0.0101


def test_an_interval_is_kept_unless_samples_cost_far_more_and_then_that_is_told() -> None:
    clock = Clock()
    told: list[tuple[int, int, int]] = []
    cadence = Cadence(0.01, clock=clock, on_change=lambda *change: told.append(change))
    run(cadence, clock, range(DECIDED_AT + 1), step_s=0.01, cost_s=0.001)
    before = cadence.interval
    run(cadence, clock, range(DECIDED_AT + 1, 4000), step_s=0.01, cost_s=0.003)
    assert (cadence.interval, told) == (before, [])
    run(cadence, clock, range(4000, 40_000), step_s=0.01, cost_s=0.1)
    assert [(old, new) for _, old, new in told] == [(before, cadence.interval)]
    share = 0.1 / (0.01 * ((cadence.interval or 1) + 1))
    assert share < 0.01 * 4


def test_intervals_are_powers_of_four() -> None:
    found = sorted({power_above(ratio / 7) for ratio in range(1, 10_000)})
    assert all(b == 4 * a for a, b in itertools.pairwise(found))
