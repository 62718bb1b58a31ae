"""Which steps are sampled."""

from __future__ import annotations

import itertools

from gainstage.attach.sample.sample_schedule import FIRST_STEPS, SampleSchedule

COST_S = 0.2


def sampled(
    losses: list[float],
    norms: list[float],
    *,
    cost_s: float = COST_S,
    share: float = 1e-9,
    is_close: bool = False,
) -> list[int]:
    """Return the sampled steps of a run that takes no time, so that the budget allows nothing."""
    schedule = SampleSchedule(share)
    schedule.is_close = is_close
    steps: list[int] = []
    for step, (loss, norm) in enumerate(zip(losses, norms, strict=True)):
        schedule.on_loss(loss, step)
        if schedule.is_due(step, 1):
            steps.append(step)
            schedule.on_cost(cost_s)
        schedule.on_step(step, norm)
    return steps


def test_the_first_steps_are_and_then_ever_fewer_until_the_early_allowance_is_spent() -> None:
    steps = sampled([1.0] * 400, [1.0] * 400, cost_s=0.01)
    assert steps[:FIRST_STEPS] == list(range(FIRST_STEPS))
    gaps = [b - a for a, b in itertools.pairwise(steps)]
    assert gaps[FIRST_STEPS:] == sorted(gaps[FIRST_STEPS:])
    assert len(steps) < 50
    assert len(sampled([1.0] * 400, [1.0] * 400, cost_s=1.0)) == FIRST_STEPS


def test_what_is_close_to_its_limit_is_sampled_often_within_the_same_allowance() -> None:
    steps = sampled([1.0] * 400, [1.0] * 400, cost_s=0.005, is_close=True)
    assert steps[:100] == list(range(100))
    assert len(steps) > 150
    assert len(sampled([1.0] * 400, [1.0] * 400, cost_s=0.02, is_close=True)) < 80


def test_a_step_whose_loss_leaps_is_sampled_itself() -> None:
    losses = [1.0] * 60
    losses[50] = 100.0
    assert 50 in sampled(losses, [1.0] * 60, cost_s=1.0)


def test_a_norm_that_leaps_has_the_next_steps_sampled() -> None:
    norms = [1.0] * 60
    norms[40] = 1000.0
    steps = sampled([1.0] * 60, norms, cost_s=1.0)
    assert 40 not in steps
    assert {41, 42, 43} <= set(steps)


def test_danger_without_end_is_not_sampled_without_end() -> None:
    schedule = SampleSchedule(1e-9)
    steps = 0
    for step in range(2000):
        schedule.on_danger(step)
        if schedule.is_due(step, 1):
            steps += 1
            schedule.on_cost(1.0)
        schedule.on_step(step, 1.0)
    assert steps < 300


def test_danger_told_at_about_the_same_step_has_the_same_steps_sampled() -> None:
    def sampled_after(told_at: int) -> list[int]:
        now = [0.0]
        schedule = SampleSchedule(1e-9, clock=lambda: now[0])
        steps: list[int] = []
        for step in range(400):
            now[0] += 0.1
            if step == told_at:
                schedule.on_danger(step)
            if schedule.is_due(step, 1):
                steps.append(step)
                now[0] += 1.0
                schedule.on_cost(1.0)
            schedule.on_step(step, 1.0)
        return steps

    assert sampled_after(100) == sampled_after(110) == [*range(FIRST_STEPS), *range(128, 161)]


def test_the_same_run_on_a_busier_machine_has_the_same_steps_sampled() -> None:
    def sampled_with(slowness: float) -> list[int]:
        now = [0.0]
        schedule = SampleSchedule(0.006, clock=lambda: now[0])
        steps: list[int] = []
        for step in range(3000):
            now[0] += 0.01 * slowness * (1 + step % 3)
            if schedule.is_due(step, 1):
                steps.append(step)
                now[0] += 0.03 * slowness
                schedule.on_cost(0.03 * slowness)
            schedule.on_step(step, 1.0)
        return steps

    quiet = sampled_with(1.0)
    assert quiet == sampled_with(1.2)
    assert len(quiet) > 30
