from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.corpus.case import Case
from benchmarks.corpus.families import FAULTY, HEALTHY, cases
from benchmarks.corpus.play import play
from benchmarks.corpus.score import judge, wilson
from benchmarks.forecast import GROWTHS, errors, held


def test_the_splits_share_no_seed_and_a_third_is_healthy_by_construction() -> None:
    dev, test = cases("dev", 8), cases("test", 8)
    assert not {each.seed for each in dev} & {each.seed for each in test}
    assert len(test) >= 300
    assert 3 * sum(each.cause is None or each.control for each in test) >= len(test)
    assert len({each.name for each in test}) == len(test)
    assert set(FAULTY).isdisjoint(HEALTHY)


def test_a_fault_is_judged_beside_its_control(tmp_path: Path) -> None:
    sick = Case("loss-reduction", "loss-reduction", 1)
    control = Case("loss-reduction", "loss-reduction", 1, control=True)
    for case in (sick, control):
        play(case, tmp_path)
    outcomes = [judge(case, tmp_path) for case in (sick, control)]
    assert [(each.faulty, each.counts) for each in outcomes] == [(True, True), (False, True)]
    assert [each.alarmed for each in outcomes] == [True, False]
    drawn = [json.loads((tmp_path / c.name / "truth.json").read_text()) for c in (sick, control)]
    assert drawn[0]["settings"] == drawn[1]["settings"]


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (0, 0, 0.0, 1.0)],
)
def test_the_interval_is_wilsons(hits: int, count: int, low: float, high: float) -> None:
    assert wilson(hits, count) == pytest.approx((low, high), abs=1e-4)


def test_the_interval_of_a_forecast_holds_about_as_often_as_it_says() -> None:
    found = [error for kind in GROWTHS for error in errors(kind, range(900, 920))]
    assert 0.70 <= held(found, 0.8) <= 0.95
