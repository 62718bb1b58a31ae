"""What every symptom kind must hold to. A kind is covered by being in the registry."""

from __future__ import annotations

import functools
import itertools
import json
import math
import pickle
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gainstage.detect import scan
from gainstage.detect.kind.inputs import BlockInput
from gainstage.detect.kind.symptom_kind import Detector, DocRow, Signal, Signals, SymptomKind
from gainstage.detect.kinds import KINDS
from gainstage.detect.series.chunks import cut
from gainstage.detect.symptom_json import message_of, symptom_from_json, symptom_json
from gainstage.detect.symptom_table import symptom_table
from gainstage.facts.blocks import WeightBlock
from gainstage.facts.codec import json_safe, to_json
from gainstage.facts.record import RankRecord
from gainstage.facts.symptom import Symptom
from gainstage.facts.tensor import TensorInfo
from symptom_records import HEALTHY, TENSORS, healthy, record, sick, steps, weights

SICK = sick()
NONFINITE = ("loss-nonfinite", "gradient-nonfinite", "update-nonfinite")
"""Symptoms that are about what is no number, and say so."""
NO_NUMBER = re.compile(r"(?<![a-z])(nan|inf)(?![a-z])")

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.id)


@functools.cache
def all_shown() -> list[tuple[str, Symptom]]:
    """Return what the sick records show, each symptom with the record's name."""
    return [(name, symptom) for name, each in SICK.items() for symptom in scan.symptoms_of(each)]


def shown(kind: SymptomKind) -> list[tuple[str, Symptom]]:
    """Return what a kind says of the sick records."""
    return [(name, symptom) for name, symptom in all_shown() if symptom.symptom == kind.id]


@functools.cache
def shown_in_health(shape: str) -> set[str]:
    """Return the symptoms of healthy records."""
    return {
        symptom.symptom for seed in range(4) for symptom in scan.symptoms_of(healthy(shape, seed))
    }


def scanned(
    each: RankRecord,
    kind: SymptomKind,
    cuts: Sequence[int],
    between: Callable[[scan.ScanState], scan.ScanState] = lambda state: state,
) -> str:
    """Return what a kind says of a record that arrives in blocks, as text in which NaN equals NaN.

    Graphs, faults and observations follow the steps, also in two parts.
    """
    state, block, samples = scan.start(each.tensors, [kind]), each.block, each.weights
    scan.learn(state, each.observations)
    bounds = sorted({0, len(block), *(at for at in cuts if at < len(block))})
    for first, end in itertools.pairwise(bounds):
        last = math.inf if end == len(block) else end
        mine = (samples.step >= (first if first else -1)) & (samples.step < last)
        part = WeightBlock(samples.step[mine], samples.weight_norms[mine], samples.present[mine])
        state, _ = scan.update(state, cut(block, first, end), part)
        state = between(state)
    graphs = list(scan.sampled_graphs(each.profiles, each.times))
    half = len(graphs) // 2
    state = between(scan.see(state, graphs[:half], each.faults, ()))
    state = scan.see(state, graphs[half:], (), each.observations)
    found = scan.findings(state)
    return to_json([found.verdict, [symptom_json(symptom) for symptom in found.symptoms]])


@every_kind
@pytest.mark.parametrize("shape", HEALTHY)
def test_it_is_silent_on_healthy_records(kind: SymptomKind, shape: str) -> None:
    assert kind.id not in shown_in_health(shape)


@every_kind
def test_the_sick_records_show_all_of_its_forms(kind: SymptomKind) -> None:
    seen = {type(symptom.evidence) for _, symptom in shown(kind)}
    assert seen == set(kind.evidence), "add a record to tests/symptom_records.py"


@every_kind
@settings(max_examples=8)
@given(data=st.data())
def test_how_a_record_arrives_makes_no_difference(kind: SymptomKind, data: st.DataObject) -> None:
    each = SICK[data.draw(st.sampled_from(sorted({name for name, _ in shown(kind)})))]
    cuts = data.draw(st.lists(st.integers(1, 240), max_size=8))
    assert scanned(each, kind, cuts) == scanned(each, kind, [])


@every_kind
def test_its_state_survives_pickling_in_the_middle(kind: SymptomKind) -> None:
    for name, _ in shown(kind)[:6]:
        cuts = [50, 101, 150, 205]
        again = scanned(SICK[name], kind, cuts, lambda state: pickle.loads(pickle.dumps(state)))
        assert again == scanned(SICK[name], kind, cuts)


@every_kind
def test_its_evidence_comes_back_from_json(kind: SymptomKind) -> None:
    for _, symptom in shown(kind):
        line = json.loads(to_json(symptom_json(symptom)))
        assert {"last_step", "count"} <= line["evidence"].keys()
        back = symptom_from_json(line)
        assert type(back.evidence) is type(symptom.evidence)
        assert to_json(symptom_json(back)) == to_json(line)
        ranked = replace(symptom, rank=3, recovered_step=7)
        assert symptom_from_json(json.loads(to_json(symptom_json(ranked)))).rank == 3


@every_kind
def test_evidence_that_lacks_a_number_or_has_text_for_one_is_refused(kind: SymptomKind) -> None:
    for _, symptom in shown(kind):
        line = json.loads(to_json(symptom_json(symptom)))
        for each in fields(symptom.evidence):
            hint = get_type_hints(type(symptom.evidence))[each.name]
            if hint in (int, float):
                wrong = {**line, "evidence": {**line["evidence"], each.name: "many"}}
                with pytest.raises(ValueError, match=each.name):
                    symptom_from_json(wrong)
        for left_out in ("last_step", "count"):
            lacking = {k: v for k, v in line["evidence"].items() if k != left_out}
            with pytest.raises(ValueError, match=left_out):
                symptom_from_json({**line, "evidence": lacking})


@every_kind
def test_what_it_measured_are_numbers_and_its_message_is_a_line(kind: SymptomKind) -> None:
    for _, symptom in shown(kind):
        message = message_of(symptom)
        assert message == message.strip() != ""
        assert "\n" not in message
        if kind.id not in NONFINITE:
            numbers = [v for v in json_safe(symptom.evidence).values() if v in ("nan", "inf")]
            assert numbers == []
            assert not NO_NUMBER.search(message), message


def any_evidence(evidence: type[Any]) -> st.SearchStrategy[Any]:
    """Return all evidence of a class whose numbers are ordinary."""
    ordinary = {
        float: st.floats(1e-3, 1e6),
        int: st.integers(0, 10**6),
        bool: st.booleans(),
        str: st.text("abc.", min_size=1),
        tuple[str, ...]: st.lists(st.text("abc.", min_size=1), max_size=3).map(tuple),
        type(None): st.none(),
    }

    def of(hint: Any) -> st.SearchStrategy[Any]:
        if hint in ordinary:
            return ordinary[hint]
        choices = get_args(hint)
        if all(isinstance(each, str) for each in choices):
            return st.sampled_from(choices)
        return st.one_of([of(each) for each in choices])

    hints = get_type_hints(evidence)
    return st.builds(evidence, **{each.name: of(hints[each.name]) for each in fields(evidence)})


@every_kind
@settings(max_examples=30)
@given(data=st.data())
def test_its_message_says_numbers_whatever_they_are(kind: SymptomKind, data: st.DataObject) -> None:
    evidence = data.draw(st.one_of([any_evidence(each) for each in kind.evidence]))
    message = kind.message(evidence)
    assert "\n" not in message
    assert kind.id in NONFINITE or not NO_NUMBER.search(message), message
    assert "None" not in message or "None" in str(evidence)


@functools.cache
def shown_in_damage() -> list[tuple[str, Symptom]]:
    """Return what damaged records show, each symptom with the damage."""
    return [
        (name, symptom) for name, each in damaged().items() for symptom in scan.symptoms_of(each)
    ]


def damaged() -> dict[str, RankRecord]:
    """Return records that lack something, or hold what is none."""
    fine = healthy("noise", 0, 120)
    block, samples = fine.block, fine.weights
    nothing = np.zeros(len(block), np.bool_)
    none = np.zeros_like(block.present)
    return {
        "no loss": replace(fine, block=replace(block, has_loss=nothing, loss=block.loss * np.nan)),
        "no norms": replace(
            fine, block=replace(block, present=none, grad_norm=block.grad_norm * np.nan)
        ),
        "no rate": replace(fine, block=replace(block, lr=block.lr * np.nan)),
        "no weights": replace(fine, weights=weights([], np.zeros((0, 8)))),
        "no tensors": replace(fine, tensors=()),
        "fewer tensors": replace(fine, tensors=TENSORS[:3]),
        "empty tensors": replace(fine, tensors=(TensorInfo("e", None, (0, 4), "float32"),) * 8),
        "unknown dtype": replace(fine, tensors=(TensorInfo("e", None, (4, 4), "float8"),) * 8),
        "no step": replace(fine, block=cut(block, 0, 0)),
        "one step": replace(fine, block=cut(block, 0, 1)),
        **{
            f"all {value}": replace(
                fine,
                block=replace(
                    block,
                    loss=np.full(120, value),
                    lr=np.full(120, value),
                    grad_norm=np.full(120, value),
                    grad_norms=np.full((120, 8), value, np.float32),
                    max_norm=np.full(120, value),
                    clip_coefficient=np.full(120, value),
                ),
                weights=replace(samples, weight_norms=np.full_like(samples.weight_norms, value)),
                profiles=replace(
                    fine.profiles,
                    **{
                        name: np.full(len(fine.profiles), value, np.float32)
                        for name in ("forward_bits", "forward_max_bits", "delta_bits")
                    },
                ),
                times=replace(fine.times, delta_bits=np.full(len(fine.times), value, np.float32)),
            )
            for value in (math.nan, math.inf, -math.inf, 0.0, 3e38)
        },
        "weights from nothing": replace(
            fine,
            weights=weights(
                samples.step.tolist(), np.maximum(samples.step - 40, 0)[:, None] * np.ones(8)
            ),
        ),
        "holes in the weights": replace(
            SICK["grows"],
            weights=replace(
                SICK["grows"].weights,
                weight_norms=np.where(
                    np.arange(60)[:, None] % 7 == 3, np.nan, SICK["grows"].weights.weight_norms
                ).astype(np.float32),
            ),
        ),
    }


@every_kind
def test_it_tolerates_what_is_missing_or_no_number(kind: SymptomKind) -> None:
    for name, symptom in shown_in_damage():
        if symptom.symptom == kind.id and kind.id not in NONFINITE:
            assert not NO_NUMBER.search(message_of(symptom)), (name, message_of(symptom))
            json.dumps(json_safe(symptom.evidence), allow_nan=False)


@every_kind
def test_its_fields_are_documented_where_their_name_is_not_enough(kind: SymptomKind) -> None:
    assert kind.evidence
    assert kind.docs
    for evidence in kind.evidence:
        assert is_dataclass(evidence)
        assert evidence.__doc__
        assert not evidence.__doc__.startswith(evidence.__name__)
        assert evidence.__dataclass_params__.frozen
        assert len(kind.evidence) == 1 or "form" in get_type_hints(evidence)


def test_ids_are_unique_and_what_they_name_exists() -> None:
    names = [kind.id for kind in KINDS]
    assert len(set(names)) == len(names)
    assert all(kind.settles <= set(names) for kind in KINDS)


def test_the_table_of_the_docs_is_that_of_the_registry(request: pytest.FixtureRequest) -> None:
    docs = (request.config.rootpath / "docs" / "detectors.md").read_text()
    assert symptom_table(KINDS) in docs, "`make tables` writes it anew"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeapDayEvidence:
    """A step that no year but every fourth has."""

    at_step: int


def leap_day(state: int, rows: BlockInput) -> tuple[int, Signals]:
    """Return a signal of step 29, once."""
    found = np.flatnonzero(rows.block.step == 29).tolist()
    evidence = LeapDayEvidence(at_step=29)
    signal = Signal(evidence=evidence, severity="critical", step=29, last_step=29)
    return state + 1, [signal] * len(found)


LEAP_DAY = SymptomKind(
    id="leap-day",
    evidence=(LeapDayEvidence,),
    detectors=(Detector(family="loss", start=int, rows=leap_day),),
    message=lambda evidence: f"step {evidence.at_step} comes every four years",
    docs=(DocRow("the 29th step", "steps", "–", "critical"),),
    is_fatal=True,
)


def test_a_symptom_is_added_by_one_value() -> None:
    kinds = [*KINDS, LEAP_DAY]
    findings = scan.find([record(steps(np.ones(60), np.ones((60, 8))))], kinds)
    (symptom,) = findings.symptoms
    assert (symptom.symptom, symptom.step, findings.verdict) == ("leap-day", 29, "failed")
    line = json.loads(to_json(symptom_json(symptom, kinds)))
    assert line["message"] == "step 29 comes every four years"
    assert line["evidence"] == {"at_step": 29, "last_step": 29, "count": 1}
    assert symptom_from_json(line, kinds) == symptom
    assert "| `leap-day` | the 29th step | steps | – | critical | – |" in symptom_table(kinds)
    with pytest.raises(ValueError, match="leap-day"):
        symptom_from_json(line)
