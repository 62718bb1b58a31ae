from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainstage.facts.prescription import Trial
from gainstage.prescribe.candidate import candidate
from gainstage.prescribe.executor import processors_at_once
from gainstage.prescribe.halving import Halving
from gainstage.prescribe.losses import Losses
from gainstage.prescribe.rank_trials import TrialResult, has_helped, is_better, ranked

BASELINE = Trial("00-baseline", outcome="finished", loss=math.inf, final_loss=math.nan)


def losses(values: list[float], left_out: int = 0) -> Losses:
    steps = np.arange(len(values), dtype=np.int64)
    return Losses(steps, np.array(values, dtype=np.float64), len(values), left_out)


def tried(
    treat: str,
    final: float | None,
    *,
    recorded: float | None = None,
    steps: int = 100,
    outcome: str = "finished",
    left_out: int = 0,
) -> TrialResult:
    own = losses([recorded if recorded is not None else (final or 0.0)] * steps, left_out)
    trial = Trial(
        treat,
        outcome=outcome,  # pyright: ignore[reportArgumentType]
        steps=steps,
        loss=own.level(),
        final_loss=final,
    )
    return TrialResult(candidate(*treat.split("+"), why=""), trial, own)


def winner(*all_of_them: TrialResult) -> str | None:
    found = ranked(all_of_them, BASELINE, start=10.0)
    return found[0].trial.name if found else None


def test_the_best_loss_wins_and_within_5_percent_the_simplest() -> None:
    reinit, clip = tried("reinit", 0.50), tried("clip-global-norm", 0.60)
    assert winner(clip, reinit) == "reinit"
    clip = tried("clip-global-norm", 0.525)
    assert winner(reinit, clip) == "clip-global-norm"
    both = tried("skip-nonfinite+clip-global-norm", 0.50)
    assert winner(both, reinit, clip) == "clip-global-norm"
    assert winner(both, tried("reinit", 0.50)) == "reinit"


def test_among_equally_simple_equals_the_lower_loss_wins() -> None:
    one, other = tried("lower-lr:factor=0.1", 0.50), tried("lower-lr:factor=0.3", 0.49)
    assert winner(one, other) == "lower-lr:factor=0.3"


def test_losses_are_compared_at_the_steps_that_all_have_reached() -> None:
    long = tried("warm-up", None, steps=100)
    falling = losses([5.0] * 50 + [0.1] * 50)
    long = TrialResult(
        long.candidate, Trial("long", outcome="finished", steps=100, loss=0.1), falling
    )
    short = tried("lower-lr", None, recorded=1.0, steps=50)
    assert winner(long, short) == "lower-lr"


@pytest.mark.parametrize("outcome", ["dead", "behind", "crashed", "timeout", "lost", "stopped"])
def test_only_who_reaches_the_end_can_win(outcome: str) -> None:
    assert winner(tried("lower-lr", 0.1, outcome=outcome)) is None


def test_a_trial_that_leaves_most_steps_out_is_no_repair() -> None:
    assert winner(tried("skip-nonfinite", 1.0, left_out=51)) is None
    assert winner(tried("skip-nonfinite", 1.0, left_out=49)) is not None


def test_a_trial_that_learns_nothing_is_no_repair() -> None:
    assert not has_helped(tried("lower-lr", None, recorded=9.9), BASELINE, start=10.0)
    assert has_helped(tried("lower-lr", None, recorded=9.0), BASELINE, start=10.0)
    # What the script prints is another quantity than what it trains on: the start says nothing.
    assert has_helped(tried("lower-lr", 0.4, recorded=9.9), BASELINE, start=10.0)


def test_a_trial_no_better_than_the_finite_baseline_is_no_repair() -> None:
    baseline = Trial("00-baseline", outcome="finished", loss=0.5, final_loss=0.5)
    assert not has_helped(tried("lower-lr", 0.49), baseline, start=10.0)
    assert has_helped(tried("lower-lr", 0.4), baseline, start=10.0)
    died = Trial("00-baseline", outcome="crashed", loss=0.5, final_loss=0.5)
    assert has_helped(tried("lower-lr", 0.6), died, start=10.0)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_better_is_a_strict_order_with_a_margin(one: float, other: float) -> None:
    assert not (is_better(one, other) and is_better(other, one))
    if is_better(one, other):
        assert one < other
    assert is_better(one, math.inf)
    assert not is_better(math.inf, one)


def test_the_level_is_the_median_of_the_last_losses_with_nan_as_infinite() -> None:
    assert losses([9.0] * 95 + [1.0, 2.0, 3.0, 4.0, 5.0]).level() == 3.0
    assert losses([9.0] * 95 + [1.0, math.nan, 3.0, math.nan, 5.0]).level() == 5.0
    assert losses([1.0, math.nan, math.nan, math.nan, math.nan]).level() == math.inf
    assert losses([1.0] * 50 + [2.0] * 50).level(50) == 1.0
    assert math.isnan(losses([]).level())


def test_a_run_is_dead_when_its_last_eight_losses_are_not_finite() -> None:
    assert losses([1.0] + [math.nan] * 8).is_dead
    assert not losses([math.nan] * 7).is_dead
    assert not losses([math.nan] * 8 + [1.0]).is_dead


def test_halving_gives_up_who_is_behind_half_of_at_least_four() -> None:
    halving = Halving(100)
    assert not halving.is_behind("a", losses([1.0] * 30))
    assert not halving.is_behind("b", losses([2.0] * 30))
    assert not halving.is_behind("worst", losses([9.0] * 30)), "three are too few to say"
    assert not halving.is_behind("c", losses([1.5] * 30))
    assert halving.is_behind("d", losses([8.0] * 30))
    assert not halving.is_behind("e", losses([9.0] * 20)), "not at the rung yet"
    assert not halving.is_behind("f", losses([0.5] * 30))
    assert halving.is_behind("nan", losses([math.nan] * 30))


def test_halving_judges_each_trial_once_a_rung_at_equal_steps() -> None:
    halving = Halving(100)
    for name, value in (("a", 1.0), ("b", 1.0), ("c", 1.0)):
        halving.is_behind(name, losses([value] * 30))
    # Ahead by now, but judged by what it was at step 25.
    slow = losses([5.0] * 25 + [0.1] * 10)
    assert halving.is_behind("slow", slow)
    assert not halving.is_behind("slow", slow)


def test_trials_at_once_do_not_take_processors_from_each_other() -> None:
    assert processors_at_once(0.6, processors=2, has_accelerator=False) == 2
    assert processors_at_once(1.9, processors=2, has_accelerator=False) == 1
    assert processors_at_once(4.1, processors=16, has_accelerator=False) == 4
    assert processors_at_once(40.0, processors=16, has_accelerator=False) == 1
    assert processors_at_once(1.0, processors=16, has_accelerator=True) == 1
