"""Facts as JSON and back."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import MISSING, fields

import numpy as np
import pytest

from gainstage.facts.codec import DecodeError, from_builtins, from_json, to_json
from gainstage.facts.observation import (
    OBSERVED,
    ClipCalled,
    ClipScaled,
    GradientsNotZeroed,
    LogNearZero,
    Observation,
    OptimizerMade,
    OptimizerSettings,
    OptimizerStepped,
)

NAN, INF = math.nan, math.inf


def same(observation: Observation) -> bool:
    return repr(from_json(to_json(observation), Observation)) == repr(observation)


@pytest.mark.parametrize(
    "observed",
    [
        ClipCalled(max_norm=INF, parameters=3, ratio=1.0, acts=True),
        ClipScaled(max_norm=None, parameters=3, ratio=NAN),
        LogNearZero(bits=-INF, limit_bits=24.0),
        OptimizerMade(class_name="SGD", settings=OptimizerSettings(lr=0.1, maximize=False)),
        OptimizerMade(class_name="A", settings=OptimizerSettings(eps=(None, INF))),
        OptimizerStepped(),
    ],
    ids=lambda each: each.kind,
)
def test_a_fact_comes_back_as_it_was_with_what_is_not_finite(observed) -> None:
    assert same(Observation(observed, 7, "/x/\udc80.py", 3))


def test_every_kind_of_observation_is_told_by_its_name_and_comes_back() -> None:
    examples = {"str": "nan", "float": 2.5, "Count": 3, "AtLeastOne": 2, "Refusal": "meta"}
    examples |= {"Literal['graphs', 'weights']": "graphs"}
    for kind, observed in OBSERVED.items():
        needed = {
            each.name: examples[str(each.type)]
            for each in fields(observed)
            if each.default is MISSING
        }
        observation = Observation(observed(**needed), 1, None, None)
        assert json.loads(to_json(observation))["kind"] == kind
        assert same(observation)


def test_the_json_of_an_observation_is_that_of_earlier_versions() -> None:
    settings = OptimizerSettings(lr=0.1, betas=(0.9, 0.99), maximize=False)
    made = Observation(OptimizerMade(class_name="Adam", settings=settings), 0, "t.py", 3)
    assert json.loads(to_json(made)) == {
        "kind": "optimizer",
        "step": 0,
        "file": "t.py",
        "line": 3,
        "evidence": {
            "class": "Adam",
            "settings": {"lr": 0.1, "betas": [0.9, 0.99], "maximize": False},
        },
    }
    assert json.loads(to_json(Observation(OptimizerStepped(), 0)))["evidence"] == {}


def test_numpy_numbers_are_written_as_numbers() -> None:
    near = LogNearZero(bits=np.float32(4.5), limit_bits=np.float64("inf"))
    assert json.loads(to_json(near)) == {"bits": 4.5, "limit_bits": "inf"}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"kind": "nope"}, "there is no kind 'nope'"),
        ({"kind": 3}, "there is no kind 3"),
        ({"step": -1}, ">= 0"),
        ({"step": "3"}, "Expected `int`"),
        ({"evidence": {"tensors": 2}}, "missing required field `of`"),
        ({"evidence": {"tensors": 2, "of": 2, "times": 0}}, ">= 1"),
        ({"evidence": "nan"}, "Expected `object`"),
        ({"line": 1.5}, "Expected `int | null`"),
    ],
)
def test_what_is_of_another_type_or_out_of_range_is_refused(change: dict, why: str) -> None:
    value = json.loads(to_json(Observation(GradientsNotZeroed(tensors=2, of=2), 0)))
    with pytest.raises(DecodeError, match=why.replace("|", r"\|")):
        from_builtins({**value, **change}, Observation)


@pytest.mark.parametrize("text", ["", "[", "3", "null", "[" * 100_000])
def test_text_that_is_no_fact_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        from_json(text, Observation)


def test_keys_of_a_later_version_are_ignored() -> None:
    value = json.loads(to_json(Observation(GradientsNotZeroed(tensors=2, of=2), 0)))
    later = {**value, "colour": "red", "evidence": {**value["evidence"], "more": [1]}}
    assert from_builtins(later, Observation) == from_builtins(value, Observation)


def test_facts_import_neither_pyarrow_nor_a_detector() -> None:
    code = (
        "import sys, gainstage.facts.codec, gainstage.facts.record\n"
        "heavy = {'torch', 'pyarrow', 'rich', 'typer', 'gainstage.detect'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
