from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from gainstage.bits import theil_sen
from gainstage.detect import scan
from gainstage.detect.series.trend import mann_kendall, steepest_growth
from gainstage.detect.symptom_json import message_of
from gainstage.facts.codec import to_json
from gainstage.facts.findings import Findings
from gainstage.facts.rows import Row, WeightRow
from gainstage.facts.tensor import TensorInfo
from gainstage.store.blocks import to_block, to_weight_block
from gainstage.store.findings import findings_json

TENSORS = [TensorInfo(f"{name}.weight", name, (16,), "float32") for name in "abcd"]
Series = NDArray[np.float64]


def rows_of(loss: Series, norm: Series, *, gan: bool = False) -> list[Row]:
    rows: list[Row] = []
    for i, (value, size) in enumerate(zip(loss.tolist(), norm.tolist(), strict=True)):
        each: list[float | None] = [size / 2] * 4
        if gan:
            each = [size, None, size, None] if i % 2 else [None, size, None, size]
        rows.append((i, float(i), value, 0.1, size, None, None, 0, each))
    return rows


def found(rows: list[Row], weights: list[WeightRow] | None = None) -> Findings:
    state = scan.start(TENSORS)
    state, _ = scan.update(state, to_block(rows, 4), to_weight_block(weights or [], 4))
    return scan.findings(state)


def healthy(kind: str, seed: int) -> list[Row]:
    """Return the record of a healthy training of some kind, 400 steps long."""
    random = np.random.default_rng(seed)
    t = np.arange(400)
    noise = random.normal(size=400)
    loss = 3 * np.exp(-t / 100) + 0.1 * np.abs(noise) + 0.5
    norm = np.exp(0.3 * random.normal(size=400)) * (1 + 2 * t / 400)
    match kind:
        case "noisy":
            norm *= np.exp(0.6 * random.normal(size=400))
            loss += 0.5 * np.abs(random.standard_t(3, size=400))
        case "warm-up":
            norm *= np.minimum(1, (t + 1) / 50)
        case "restarts":
            loss += 0.5 * (t % 100 < 10)
            norm *= 1 + 3 * (t % 100 < 10)
        case "converged":
            norm *= 10.0 ** (-t / 40)
            loss = 3 * 10.0 ** (-t / 60) + 1e-9
        case "spike":
            rise = np.exp(-(((t - 250) / 6.0) ** 2))
            norm *= 2.0 ** (12 * rise)
            loss += 1.5 * rise
        case "catapult":
            loss += 5 * np.exp(-(((t - 8) / 4.0) ** 2))
            norm *= 1 + 8 * np.exp(-(((t - 8) / 4.0) ** 2))
        case "below zero":
            loss = 2 - 0.02 * t + 0.2 * noise
            norm *= 1 + t / 400
        case "reinforce":
            loss = 5 * random.standard_t(3, size=400)
            norm *= np.exp(random.normal(size=400))
        case "large regression":
            loss, norm = loss * 2e4, norm * 3e5
        case "zero":
            norm *= 0
        case "gan":
            norm *= np.where(t % 2, 1.0, 30.0)
            loss = np.where(t % 2, 0.7, 1.4) + 0.1 * noise
            return rows_of(loss, norm, gan=True)
        case _:
            pass
    return rows_of(loss, norm)


HEALTHY = [
    "plain", "noisy", "warm-up", "restarts", "converged", "spike", "catapult", "below zero",
    "reinforce", "large regression", "zero", "gan",
]  # fmt: skip


@pytest.mark.parametrize("kind", HEALTHY)
def test_a_healthy_training_is_called_healthy(kind: str) -> None:
    for seed in range(25):
        findings = found(healthy(kind, seed))
        assert findings.verdict == "healthy", findings.symptoms
        assert all(symptom.severity != "critical" for symptom in findings.symptoms)


@pytest.mark.parametrize("factor", [1.3, 2.0, 8.0])
@pytest.mark.parametrize("begins", [0, 40, 300])
def test_exponential_growth_is_seen_before_it_overflows(factor: float, begins: int) -> None:
    random = np.random.default_rng(begins)
    t = np.arange(400)
    growth = 2.0 ** np.minimum(np.log2(factor) * np.maximum(t - begins, 0.0), 122.0)
    norm = growth * np.exp(0.1 * random.normal(size=400))
    loss = 1 + growth * 0.1
    findings = found(rows_of(loss, norm))
    assert findings.verdict in ("at-risk", "failed")
    overflow = begins + 127 / math.log2(factor)
    first = min(symptom.step for symptom in findings.symptoms)
    assert begins <= first < overflow


def test_a_slow_growth_of_the_gradient_is_a_warning_and_not_an_alarm() -> None:
    t = np.arange(2000)
    findings = found(rows_of(np.full(2000, 1.0), 2.0 ** (t / 160)))
    assert [s.symptom for s in findings.symptoms if s.symptom == "gradient-growth"]
    assert findings.verdict == "healthy"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_nonfinite_loss_fails_the_run_from_its_first_step(value: float) -> None:
    for step in (0, 7):
        loss = np.ones(20)
        loss[step] = value
        findings = found(rows_of(loss, np.ones(20)))
        assert findings.verdict == "failed"
        assert [(s.symptom, s.step) for s in findings.symptoms] == [("loss-nonfinite", step)]


def test_a_nonfinite_gradient_names_its_tensors() -> None:
    rows = rows_of(np.ones(10), np.ones(10))
    rows[4] = (4, 4.0, 1.0, 0.1, math.nan, None, None, 0, [1.0, math.nan, math.inf, 1.0])
    (symptom,) = found(rows).symptoms
    assert (symptom.symptom, symptom.severity, symptom.step) == (
        "gradient-nonfinite",
        "critical",
        4,
    )
    assert symptom.evidence.tensors == ("b.weight", "c.weight")
    assert "NaN and inf in the gradient of b.weight and 1 more at step 4" in message_of(symptom)


def test_a_step_that_was_left_out_fails_nothing() -> None:
    rows = rows_of(np.ones(10), np.ones(10))
    rows[4] = (4, 4.0, 1.0, 0.1, math.nan, None, None, -1, [math.nan] * 4)
    findings = found(rows)
    assert findings.verdict == "healthy"
    assert [s.severity for s in findings.symptoms] == ["warning"]


def test_weights_that_only_grow_are_told() -> None:
    weights: list[WeightRow] = [(10 * i, [2.0 ** (4 + i / 2), 1.0, 1.0, 1.0]) for i in range(40)]
    (symptom,) = found(rows_of(np.ones(400), np.ones(400)), weights).symptoms
    assert symptom.symptom == "weight-growth"
    assert symptom.evidence.tensor == "a.weight"


@pytest.mark.parametrize("start", [0.0, 1e-3, 1.0])
def test_weights_that_grow_as_usual_are_not_told(start: float) -> None:
    sizes = start + 3 * (1 - np.exp(-np.arange(60) / 10))
    weights: list[WeightRow] = [(10 * i, [float(s)] * 4) for i, s in enumerate(sizes)]
    assert found(rows_of(np.ones(600), np.ones(600)), weights).symptoms == ()


@given(
    st.sampled_from([*HEALTHY, "sick"]),
    st.lists(st.integers(1, 120), min_size=1, max_size=12),
    st.integers(0, 20),
)
def test_how_a_record_is_cut_into_blocks_makes_no_difference(
    kind: str, cuts: list[int], seed: int
) -> None:
    rows = healthy(kind, seed)
    if kind == "sick":
        norm = 1.5 ** np.arange(200.0)
        end: Row = (200, 0.0, math.nan, 0.1, math.inf, None, None, 0, [math.inf] * 4)
        rows = [*rows_of(1 + norm, norm), end]
    whole = found(rows)
    state, at = scan.start(TENSORS), 0
    for cut in [*cuts, len(rows)]:
        state, _ = scan.update(state, to_block(rows[at : at + cut], 4), None)
        at += cut
    # As text, in which NaN equals NaN.
    assert to_json(findings_json(scan.findings(state))) == to_json(findings_json(whole))


def test_a_symptom_is_said_once_and_then_only_when_there_is_news() -> None:
    state = scan.start(TENSORS)
    said = 0
    for i in range(300):
        row: Row = (i, 0.0, math.nan, 0.1, 1.0, None, None, 0, [1.0] * 4)
        state, changed = scan.update(state, to_block([row], 4), None)
        said += len(changed)
    assert said <= 10
    (symptom,) = scan.findings(state).symptoms
    assert math.isnan(symptom.evidence.value)
    assert (symptom.last_step, symptom.count) == (299, 300)


def test_nothing_is_healthy() -> None:
    assert scan.find({}) == Findings(0, "healthy", ())


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30))
def test_the_slope_is_scipys(values: list[float]) -> None:
    x = np.arange(len(values))
    assert theil_sen(x, values) == pytest.approx(stats.theilslopes(values, x)[0], abs=1e-9)


@given(st.permutations(list(range(12))))
def test_the_trend_agrees_with_kendalls_tau(order: list[int]) -> None:
    tau = stats.kendalltau(range(12), order).statistic
    assert (mann_kendall(order) > 0) == (tau > 1e-12 and tau * 66 > 1)


def test_the_steepest_tensor_comes_first_with_its_headroom() -> None:
    rows: list[Row] = [
        (i, 0.0, 1.0, 0.1, 1.0, None, None, 0, [1.0, 2.0**i, 2.0 ** (3 * i), None])
        for i in range(20)
    ]
    (first, second) = steepest_growth(to_block(rows, 4), TENSORS, 2)
    assert (first[0], second[0]) == (2, 1)
    assert first[1] == pytest.approx(3.0)
    assert first[2] == pytest.approx(128 - 57, abs=0.01)
