"""The symptoms of one detector each, on records written by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gainstage.bits import theil_sen
from gainstage.detect import scan
from gainstage.detect.series.forecast import forecast
from gainstage.detect.series.trend import rises_by
from gainstage.facts.findings import Findings
from gainstage.facts.rows import Row, WeightRow
from gainstage.facts.symptom import Symptom
from gainstage.facts.tensor import TensorInfo
from gainstage.store.blocks import to_block, to_weight_block

LAYERS = [TensorInfo(f"{i}.weight", str(i), (16, 16), "float32") for i in range(8)]


def row(step: int, loss: float, norms: list[float], **given: Any) -> Row:
    total = given.get("total", math.hypot(*norms))
    clip, coefficient = given.get("max_norm"), given.get("coefficient")
    rate, skipped = given.get("lr", 0.1), given.get("skipped", 0)
    return (step, float(step), loss, rate, total, clip, coefficient, skipped, norms)


def found(rows: list[Row], weights: list[WeightRow] | None = None) -> Findings:
    state = scan.start(LAYERS)
    state, _ = scan.update(
        state, to_block(rows, len(LAYERS)), to_weight_block(weights or [], len(LAYERS))
    )
    return scan.findings(state)


def named(findings: Findings, name: str) -> Symptom:
    (symptom,) = [each for each in findings.symptoms if each.symptom == name]
    return symptom


def falling(step: int) -> float:
    return 2.0 * math.exp(-step / 50)


def test_gradients_that_are_gone_while_the_loss_is_an_untrained_nets_are_an_alarm() -> None:
    alive = [row(i, falling(i), [1.0] * 8) for i in range(32)]
    dead = [row(i, 2.3, [0.0] * 7 + [1e-3]) for i in range(32, 80)]
    findings = found(alive + dead)
    symptom = named(findings, "gradient-vanishing")
    assert (symptom.severity, findings.verdict) == ("critical", "at-risk")
    assert symptom.step < 64
    assert symptom.evidence.share_silent == 7 / 8


def test_gradients_that_are_gone_at_the_lowest_loss_are_the_end_of_a_training() -> None:
    alive = [row(i, falling(i), [1.0] * 8) for i in range(32)]
    done = [row(i, 0.0, [0.0] * 8) for i in range(32, 80)]
    assert found(alive + done).symptoms == ()


def test_a_gradient_that_is_lost_over_depth_is_told_with_its_slope() -> None:
    norms = [2.0 ** (4 * i) for i in range(8)]
    symptom = named(found([row(i, falling(i), norms) for i in range(16)]), "gradient-vanishing")
    assert symptom.severity == "warning"
    assert symptom.evidence.slope_bits_per_tensor == pytest.approx(4.0)
    assert symptom.evidence.bits_lost == pytest.approx(28.0)


@pytest.mark.parametrize(("coefficient", "severity"), [(None, "info"), (0.5, "warning")])
def test_a_tensor_that_is_nearly_the_whole_norm_is_named(
    coefficient: float | None, severity: str
) -> None:
    norms = [1e-4] * 7 + [1.0]
    rows = [
        row(i, falling(i), norms, max_norm=coefficient, coefficient=coefficient) for i in range(64)
    ]
    symptom = named(found(rows), "gradient-imbalance")
    assert (symptom.severity, symptom.evidence.tensor) == (severity, "7.weight")
    assert symptom.evidence.bits_apart == pytest.approx(math.log2(1e4))


@pytest.mark.parametrize(
    ("every", "coefficient", "severity"),
    [(1, 0.02, "warning"), (1, 0.3, "info"), (10, 0.02, None), (1, 0.9, None)],
)
def test_a_clip_that_always_acts_is_told_by_what_it_costs(
    every: int, coefficient: float, severity: str | None
) -> None:
    rows = [
        row(i, falling(i), [1.0] * 8, max_norm=1.0, coefficient=1.0 if i % every else coefficient)
        for i in range(256)
    ]
    seen = [s.severity for s in found(rows).symptoms if s.symptom == "clip-saturated"]
    assert seen == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("loss", "severity"), [(lambda i: 2.3 + 0.05 * (-1) ** i, "critical"), (falling, "warning")]
)
def test_a_clip_that_lets_nothing_be_learned_puts_a_run_at_risk(
    loss: Callable[[int], float], severity: str
) -> None:
    rows = [row(i, loss(i), [1.0] * 8, max_norm=1e-5, coefficient=1e-5) for i in range(256)]
    findings = found(rows)
    assert named(findings, "clip-saturated").severity == severity
    assert findings.verdict == ("at-risk" if severity == "critical" else "healthy")


@pytest.mark.parametrize(("limit", "told"), [(1000.0, True), (5.0, False), (math.inf, False)])
def test_a_clip_that_never_acts_is_told_if_its_limit_is_far_off(limit: float, told: bool) -> None:
    rows = [row(i, falling(i), [1.0] * 8, max_norm=limit, coefficient=1.0) for i in range(320)]
    findings = found(rows)
    assert ("clip-idle" in [s.symptom for s in findings.symptoms]) is told
    assert findings.verdict == "healthy"


def test_the_first_search_of_a_loss_scaler_is_no_symptom() -> None:
    rows = [row(i, falling(i), [1.0] * 8, skipped=12 if i == 0 else 0) for i in range(200)]
    rows[100] = row(100, falling(100), [1.0] * 8, skipped=1)
    assert found(rows).symptoms == ()


def test_steps_left_out_all_the_time_are_told_with_their_share() -> None:
    rows = [row(i, falling(i), [1.0] * 8, skipped=2 if i else 0) for i in range(64)]
    symptom = named(found(rows), "step-skipped")
    assert symptom.severity == "warning"
    assert symptom.evidence.share == pytest.approx(2 / 3, abs=0.02)
    treated = [row(i, falling(i), [1.0] * 8, skipped=-1 if i > 40 else 0) for i in range(80)]
    assert named(found(treated), "step-skipped").evidence.longest_run >= 8


def test_a_jump_that_will_overwrite_the_weights_is_an_alarm_at_that_step() -> None:
    rows = [row(i, 4.6 - 0.2 * i, [1.0] * 8) for i in range(4)]
    rows.append(row(4, 1.3e4, [1e6] * 8))
    weights: list[WeightRow] = [(1, [5.0] * 8)]
    findings = found(rows, weights)
    assert named(findings, "update-spike").step == 4
    assert findings.verdict == "at-risk"
    # Without a sample of the weights nobody can tell, and one bad batch is no alarm.
    assert found(rows).verdict == "healthy"
    rows[4] = row(4, 1.3e4, [1e6] * 8, lr=1e-7)
    assert found(rows, weights).verdict == "healthy"


def test_a_ratio_that_was_always_large_is_an_optimizer_that_divides_it_out() -> None:
    rows = [row(i, 4.6 - 0.02 * i, [100.0] * 8) for i in range(40)]
    rows += [row(40, 1.3e4, [1e5] * 8), row(41, 1.2e4, [1e5] * 8)]
    assert "update-spike" not in [s.symptom for s in found(rows, [(1, [5.0] * 8)]).symptoms]


def test_a_clip_that_holds_the_update_is_counted_in() -> None:
    rows = [row(i, 4.6 - 0.2 * i, [1.0] * 8) for i in range(4)]
    rows.append(row(4, 1.3e4, [1e6] * 8, max_norm=1.0, coefficient=1e-6))
    assert found(rows, [(1, [5.0] * 8)]).verdict == "healthy"


@pytest.mark.parametrize(("loss", "verdict"), [(1e12, "at-risk"), (1e30, "healthy")])
def test_an_absurd_norm_is_an_alarm_where_the_network_makes_it(loss: float, verdict: str) -> None:
    # Targets in large units make the loss larger still, and the gradient less than its share.
    rows = [row(i, loss, [1e12] * 8) for i in range(3)]
    findings = found(rows, [(1, [5.0] * 8)])
    assert findings.verdict == verdict
    assert named(findings, "gradient-norm").step == 0


def test_a_loss_that_jumps_and_stays_is_told_without_rising_on() -> None:
    rows = [row(i, falling(i), [1.0] * 8) for i in range(40)]
    rows += [row(i, 50.0, [1.0] * 8) for i in range(40, 80)]
    symptom = named(found(rows), "loss-divergence")
    assert symptom.step < 56
    assert symptom.evidence.form == "above"


def test_a_training_that_unlearns_is_an_alarm_with_the_gradients_as_second_sign() -> None:
    rows = [row(i, falling(i), [1.0] * 8) for i in range(100)]
    wild = rows + [row(i, 3.5 + 0.1 * (i % 3), [20.0] * 8) for i in range(100, 180)]
    symptom = named(found(wild), "loss-divergence")
    assert (symptom.severity, symptom.evidence.form) == ("critical", "unlearnt")
    calm = rows + [row(i, 3.5, [1.0] * 8) for i in range(100, 180)]
    assert found(calm).verdict == "healthy"


def test_a_new_task_that_is_being_learnt_is_none() -> None:
    rows = [row(i, falling(i), [1.0] * 8) for i in range(150)]
    rows += [row(i, 3.0 * math.exp(-(i - 150) / 40), [5.0] * 8) for i in range(150, 300)]
    assert found(rows).verdict == "healthy"


def test_a_loss_that_falls_ever_faster_has_no_bound() -> None:
    rows = [row(i, 1.0 - 1.05**i, [1.03**i] * 8) for i in range(200)]
    findings = found(rows)
    symptom = named(findings, "loss-divergence")
    assert symptom.evidence.form == "unbounded"
    assert findings.verdict == "failed"


def test_a_log_likelihood_that_levels_off_below_zero_is_healthy() -> None:
    rows = [row(i, 5 - 60 * (1 - math.exp(-i / 80)), [1.0 + i / 100] * 8) for i in range(400)]
    assert found(rows).symptoms == ()


def test_weights_that_double_at_a_stroke_are_told() -> None:
    rows = [row(i, 1.0, [1.0] * 8) for i in range(40)]
    weights: list[WeightRow] = [(i, [30.0 if i < 20 else 90.0] * 8) for i in range(2, 40, 3)]
    symptom = named(found(rows, weights), "weight-growth")
    assert symptom.evidence.bits_gained == pytest.approx(math.log2(3), abs=1e-6)
    assert symptom.step == 20


def test_one_small_weight_that_grows_is_a_note_until_it_rules_all() -> None:
    rows = [row(i, 1.0, [1.0] * 8) for i in range(400)]
    small: list[WeightRow] = [(10 * i, [2.0 ** (i / 4), *[2.0**9] * 7]) for i in range(40)]
    symptom = named(found(rows, small[:34]), "weight-growth")
    assert (symptom.severity, symptom.evidence.tensor) == ("info", "0.weight")
    alarmed = named(found(rows, small), "weight-growth")
    assert alarmed.severity == "warning"
    assert alarmed.step > symptom.last_step


def test_a_weight_that_stays_zero_grows_by_nothing() -> None:
    rows = [row(i, 1.0, [1.0] * 8) for i in range(40)]
    weights: list[WeightRow] = [(i, [0.0] + [30.0] * 7) for i in range(40)]
    assert found(rows, weights).symptoms == ()


def test_a_spike_that_comes_back_leaves_notes_only() -> None:
    """The published 176B run: 0.24, 0.95, 2.4, 16, 145, 960 and back within 30 iterations."""
    up = [0.24, 0.95, 2.4, 16, 145, 960]
    way = [*up, *np.geomspace(960, 0.24, 24).tolist()]
    norms = [0.24] * 200 + way + [0.24] * 100
    rows = [row(i, 2.5 + 0.2 * (n > 10), [n / math.sqrt(8)] * 8) for i, n in enumerate(norms)]
    findings = found(rows, [(1, [50.0] * 8)])
    assert findings.verdict == "healthy"
    assert {s.severity for s in findings.symptoms} == {"info"}
    assert named(findings, "gradient-spike").evidence.peak_bits == pytest.approx(12, abs=0.1)


def test_a_pure_exponential_is_forecast_to_the_step() -> None:
    seen = forecast(list(range(40)), [0.5 * i for i in range(40)], 128.0)
    assert seen is not None
    assert seen.step == pytest.approx(256.0)
    assert seen.earliest < 256.0 < seen.latest < 300.0


@settings(max_examples=50)
@given(st.floats(0.05, 10), st.floats(-40, 40), st.integers(8, 64), st.integers(0, 2**16))
def test_a_forecast_lies_ahead_and_in_its_interval(
    slope: float, level: float, count: int, seed: int
) -> None:
    noise = np.random.default_rng(seed).normal(size=count)
    bits = level + slope * np.arange(count) + 0.2 * noise
    seen = forecast(list(range(count)), bits.tolist(), 128.0)
    if seen is not None:
        assert count - 1 < seen.earliest <= seen.step <= seen.latest
        assert seen.headroom_bits > 0


def test_what_does_not_rise_is_not_forecast() -> None:
    assert forecast([0, 1, 2], [1.0, 2.0, 3.0], 128.0) is None
    assert forecast(list(range(64)), [(-1.0) ** i for i in range(64)], 128.0) is None
    assert forecast(list(range(64)), [-0.5 * i for i in range(64)], 128.0) is None


def test_half_precision_overflows_first() -> None:
    half = [TensorInfo(each.name, each.module, each.shape, "float16") for each in LAYERS]
    rows = [row(i, 1.0, [2.0 ** (i / 10)] * 8) for i in range(100)]
    state, _ = scan.update(scan.start(half), to_block(rows, 8), None)
    symptom = named(scan.findings(state), "overflow-forecast")
    assert symptom.evidence.dtype == "float16"
    assert symptom.evidence.overflow_step == pytest.approx(10 * (16 - 1.5), rel=0.02)


KINDS = ["dead", "clipped", "skipped", "exploding", "unlearning", "unbounded"]


@settings(max_examples=40)
@given(
    st.sampled_from(KINDS),
    st.lists(st.integers(1, 60), min_size=1, max_size=8),
    st.integers(0, 20),
)
def test_cuts_make_no_difference_to_symptoms_over_tensors_and_weights(
    kind: str, cuts: list[int], seed: int
) -> None:
    random = np.random.default_rng(seed)
    rows, weights = _sick(kind, random)
    whole = found(rows, weights)
    state, at = scan.start(LAYERS), 0
    for cut in [*cuts, len(rows)]:
        part = rows[at : at + cut]
        at += cut
        # A sample of step s is in hand after row s - 1, and never later than row s.
        samples = [each for each in weights if part and part[0][0] < each[0] <= part[-1][0] + 1]
        state, _ = scan.update(state, to_block(part, 8), to_weight_block(samples, 8))
    assert scan.findings(state) == whole
    assert whole.symptoms


def _sick(kind: str, random: np.random.Generator) -> tuple[list[Row], list[WeightRow]]:
    rows: list[Row] = []
    weights: list[WeightRow] = []
    for i in range(160):
        norms = np.exp(0.2 * random.normal(size=8))
        loss, given, size = falling(i) + 0.05 * float(random.random()), {}, 5.0
        match kind:
            case "dead" if i > 60:
                norms[:6], loss = 0.0, 2.5
            case "clipped":
                given = {"max_norm": 0.1, "coefficient": 0.1 / float(np.linalg.norm(norms))}
            case "skipped" if i:
                given = {"skipped": int(random.integers(0, 4))}
            case "exploding" if i > 80:
                norms, loss, size = norms * 2.0 ** (i - 80), 1.5 ** (i - 80), 5.0 * 1.2 ** (i - 80)
            case "unlearning" if i > 80:
                norms, loss = norms * 16, 4.0
            case "unbounded":
                norms, loss = norms * 1.03**i, 1.0 - 1.05**i
            case _:
                pass
        rows.append(row(i, loss, norms.tolist(), **given))
        if i % 3 == 1:
            weights.append((i, [size] * 8))
    return rows, weights


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=30), st.floats(-3, 3))
def test_no_theil_sen_slope_is_turned_away_before_it_is_computed(
    y: list[float], slope: float
) -> None:
    found = theil_sen(range(len(y)), y)
    assert rises_by(y, found)
    assert rises_by(y, slope) or found < slope


@pytest.mark.parametrize(
    ("share", "bits_apart", "is_told"),
    [(0.993, 10.4, True), (0.987, 10.4, False), (0.993, 9.6, False)],
)
def test_how_much_of_the_norm_a_tensor_must_be_and_how_far_above_the_others(
    share: float, bits_apart: float, is_told: bool
) -> None:
    second = math.sqrt((1 - share) / share)
    norms = [2.0**-bits_apart] * 6 + [second, 1.0]
    found_in = found([row(i, falling(i), norms) for i in range(64)]).symptoms
    assert [each.symptom for each in found_in] == ["gradient-imbalance"] * is_told


@pytest.mark.parametrize(
    ("steps", "tensors", "is_told"), [(64, 8, True), (48, 8, False), (64, 6, True), (64, 5, False)]
)
def test_for_how_long_and_among_how_many_a_tensor_must_rule(
    steps: int, tensors: int, is_told: bool
) -> None:
    norms = [0.0] * (8 - tensors) + [1e-4] * (tensors - 1) + [1.0]
    found_in = found([row(i, falling(i), norms) for i in range(steps)]).symptoms
    assert [each.symptom for each in found_in] == ["gradient-imbalance"] * is_told


@pytest.mark.parametrize(("clipped", "severity"), [(7, "info"), (8, "warning")])
def test_a_ruling_tensor_matters_where_the_clip_acts_on_half_of_the_steps(
    clipped: int, severity: str
) -> None:
    norms = [1e-4] * 7 + [1.0]
    rows = [
        row(i, falling(i), norms, max_norm=1.0, coefficient=0.7 if i % 16 < clipped else 1.0)
        for i in range(64)
    ]
    assert named(found(rows), "gradient-imbalance").severity == severity
