from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainstage.diagnose.causes import CAUSE
from gainstage.facts.blocks import ProfileBlock, TimeBlock
from gainstage.facts.diagnosis import Alternative, Diagnosis
from gainstage.facts.observation import Observation, OptimizerMade, OptimizerSettings
from gainstage.facts.record import RankRecord
from gainstage.facts.tensor import TensorInfo
from gainstage.prescribe.candidate import candidate
from gainstage.prescribe.search_space import (
    BaselineFacts,
    distinct,
    facts_of,
    first_round,
    second_round,
)
from gainstage.store.blocks import to_block, to_weight_block
from gainstage.treat.kinds import KINDS


def record(eps: float = 1e-8) -> RankRecord:
    none = np.zeros(0)
    whole = none.astype(np.int32)
    made = OptimizerMade(class_name="Adam", settings=OptimizerSettings(eps=eps))
    seen = Observation(made, 0, "t.py", 3)
    return RankRecord(
        tensors=(TensorInfo("w", None, (4, 4), "float32"),),
        block=to_block([], 1),
        weights=to_weight_block([], 1),
        profiles=ProfileBlock(whole, whole, whole, whole, whole, none, none, none, none, none),
        times=TimeBlock(whole, whole, whole, whole, whole, whole, whole, none, none),
        sites=(),
        faults=(),
        observations=(seen,),
    )


def diagnosis(cause: str) -> Diagnosis:
    return Diagnosis(
        cause,
        confidence=0.7,
        alternatives=(Alternative("bad-data", 0.2), Alternative("init-scale", 0.01)),
        remedies=tuple(CAUSE[cause].remedies(record())),
    )


def test_the_diagnosis_comes_first_then_its_alternatives_then_one_of_each_kind() -> None:
    found = first_round(diagnosis("learning-rate"), BaselineFacts(steps=300), record())
    assert [each.treat for each in found] == [
        ("lower-lr:factor=0.1",),
        ("clip-global-norm:max_norm=1",),
        ("warm-up:steps=100",),
        ("skip-nonfinite",),
        ("reinit:kind=auto",),
        ("insert-norm:kind=layer",),
    ]


@pytest.mark.parametrize("cause", CAUSE)
def test_every_cause_has_something_to_try_and_nothing_twice(cause: str) -> None:
    facts = BaselineFacts(steps=300, eps=1e-12, is_half=True)
    found = first_round(diagnosis(cause), facts, record())
    assert len(found) >= 6
    assert len(distinct(found)) == len(found)
    assert {spec.remedy for each in found for spec in each.specs} <= set(KINDS)


def test_what_cannot_matter_is_not_tried() -> None:
    facts = BaselineFacts(is_nonfinite=False, eps=None, is_half=False, has_matrices=False)
    tried = {each.remedy for each in first_round(None, facts, record())}
    assert tried == {"clip-global-norm", "lower-lr", "warm-up"}
    facts = BaselineFacts(is_half=True, eps=0.0)
    tried = {each.remedy for each in first_round(None, facts, record())}
    assert {"fp32-module", "raise-eps", "reinit", "insert-norm", "skip-nonfinite"} <= tried


def test_facts_come_from_the_record() -> None:
    facts = facts_of(record(eps=0.0))
    assert (facts.eps, facts.is_half, facts.has_matrices) == (0.0, False, True)
    assert (facts.is_nonfinite, facts.steps) == (False, 0)


@pytest.mark.parametrize("clips", [True, False])
def test_a_script_whose_own_clip_was_set_right_gets_no_second_one(clips: bool) -> None:
    mended = candidate("code-change:source=change-1.py", why="")
    clip = candidate("clip-global-norm:max_norm=0.2", why="")
    found = second_round([mended, clip], BaselineFacts(steps=300, clips=clips))
    beside = {each.remedy for each in found if each.treat[0] == mended.treat[0]}
    assert ("code-change+clip-global-norm" in beside) is not clips
    assert "code-change+lower-lr" in beside


def test_the_second_round_looks_around_the_best_and_puts_together_what_helped() -> None:
    best = candidate("clip-global-norm:max_norm=1", why="")
    other = candidate("warm-up:steps=100", why="")
    found = [each.treat for each in second_round([best, other], BaselineFacts(steps=300))]
    for expected in (
        ("clip-global-norm:max_norm=0.3",),
        ("clip-global-norm:max_norm=1", "warm-up:steps=100"),
        ("lower-lr:factor=0.01",),
    ):
        assert expected in found[:4]


@pytest.mark.parametrize(
    ("best", "beside"),
    [
        ("clip-global-norm:max_norm=3", [1.0, 10.0]),
        ("clip-global-norm:max_norm=4.39", [1.0, 10.0]),
        ("clip-global-norm:max_norm=0.03", [0.01, 0.1]),
        ("lower-lr:factor=0.1", [0.3, 0.03]),
        ("lower-lr:factor=0.3", [0.1]),
        ("warm-up:steps=2", [2, 10]),
        ("warm-up:steps=100", [30, 300]),
    ],
)
def test_a_setting_is_followed_by_half_decades(best: str, beside: list[float]) -> None:
    found = second_round([candidate(best, why="")], BaselineFacts(steps=300))[: len(beside)]
    kept = [next(iter(each.specs[0].settings.values())) for each in found]
    assert [float(str(each)) for each in kept] == beside
    assert {each.remedy for each in found} == {best.partition(":")[0]}


def test_without_anything_that_helped_the_general_ladder_goes_on() -> None:
    found = second_round([], BaselineFacts(steps=300))
    assert found[0].treat == ("lower-lr:factor=0.01",)
    assert ("skip-nonfinite", "clip-global-norm:max_norm=1", "lower-lr:factor=0.1") in [
        each.treat for each in found
    ]


@given(st.floats(1e-6, 1e6), st.floats(0.5, 2.0))
def test_numbers_within_a_tenth_are_the_same_treatment(limit: float, factor: float) -> None:
    one = candidate(f"clip-global-norm:max_norm={limit!r}", why="")
    other = candidate(f"clip-global-norm:max_norm={limit * factor!r}", why="")
    is_near = abs(1 - factor) <= 0.1 * max(1, factor)
    assert one.is_like(other) == other.is_like(one)
    assert one.is_like(other) == is_near or abs(abs(1 - factor) - 0.1 * max(1, factor)) < 1e-9


def test_fewer_treatments_are_simpler_then_those_that_change_less() -> None:
    clip = candidate("clip-global-norm", why="")
    reinit = candidate("reinit", why="")
    both = candidate("clip-global-norm", "lower-lr", why="")
    assert clip.complexity() < reinit.complexity() < both.complexity()
    assert both.remedy == "clip-global-norm+lower-lr"
    assert both.settings() == {"clip-global-norm": {}, "lower-lr": {}}
