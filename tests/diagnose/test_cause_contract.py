"""What every cause must provide; a new one is held to it by standing in the list."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from gainstage.diagnose.cause_kind import CauseKind, cause_table
from gainstage.diagnose.causes import CAUSE, CAUSES
from gainstage.diagnose.rank import rank
from gainstage.facts.diagnosis import BY_HAND, CauseSite, Remedy
from gainstage.facts.fault import Fault, Site
from gainstage.facts.record import RankRecord
from gainstage.show.wording import treat_text
from gainstage.store.blocks import to_block, to_weight_block
from gainstage.treat.spec import parse
from imports import SOURCE
from recorded import along_time, levels

each_cause = pytest.mark.parametrize("kind", CAUSES, ids=lambda kind: kind.id)


def record(steps: int = 30) -> RankRecord:
    rows = [(s, 0.0, 1.0, 0.1, 1.23456, None, None, 0, [1.0]) for s in range(steps)]
    none = (levels(0, [], [], []), along_time(0, [[]]))
    return RankRecord((), to_block(rows, 1), to_weight_block([], 1), *none, (), (), ())


def test_ids_are_told_apart() -> None:
    assert list(CAUSE) == [kind.id for kind in CAUSES]


@each_cause
def test_a_cause_has_words_that_go_on_after_a_colon_and_a_signature(kind: CauseKind) -> None:
    for text in (kind.words, kind.signature):
        assert text
        assert not text.endswith(".")
    assert kind.words[0].islower()


@each_cause
def test_some_evidence_speaks_for_a_cause_by_more_than_that_for_an_unknown_one(
    kind: CauseKind,
) -> None:
    assert max(kind.weighs.values()) >= 4
    assert all(bits != 0 and abs(bits) <= 10 for bits in kind.weighs.values())


@each_cause
def test_the_evidence_that_speaks_for_a_cause_alone_puts_it_first(kind: CauseKind) -> None:
    others = [other for other in CAUSES if other is not kind]
    own = [
        name
        for name, bits in kind.weighs.items()
        if bits > max((other.weighs.get(name, 0.0) for other in others), default=0.0)
    ]
    assert rank(own)[0].cause == kind.id


@each_cause
@pytest.mark.parametrize("steps", [0, 30])
def test_every_remedy_is_a_treatment_that_run_takes_or_said_to_be_by_hand(
    kind: CauseKind, steps: int
) -> None:
    remedies = kind.remedies(record(steps))
    assert remedies
    for remedy in remedies:
        assert remedy.why
        text = treat_text(remedy)
        if text is None:
            assert remedy.remedy in BY_HAND
        else:
            assert parse(text).remedy == remedy.remedy


@each_cause
@pytest.mark.parametrize("steps", [0, 30])
def test_a_record_that_holds_nothing_has_a_place_without_a_line(
    kind: CauseKind, steps: int
) -> None:
    site = kind.place(record(steps))
    assert site == CauseSite(site.phase)


@each_cause
def test_a_wrong_operation_does_not_stop_a_cause_from_being_placed(kind: CauseKind) -> None:
    fault = Fault(3, "domain", "loss", Site("log", "head", "forward", "train.py", 12), "why")
    site = kind.place(replace(record(), faults=(fault,)))
    assert site.line in (None, 12)


def test_every_piece_of_evidence_that_causes_weigh_is_looked_for() -> None:
    named = {
        node.value
        for path in (SOURCE / "diagnose" / "evidence").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert {name for kind in CAUSES for name in kind.weighs} <= named


def test_only_without_a_bound_is_a_lower_loss_no_better() -> None:
    misleading = [kind.id for kind in CAUSES if not kind.is_lower_loss_better]
    assert misleading == ["unbounded-objective"]


def test_the_table_of_the_docs_is_that_of_the_list() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "detectors.md").read_text()
    assert cause_table(CAUSES) in docs, cause_table(CAUSES)


def test_a_new_cause_takes_part_by_standing_in_the_list() -> None:
    toy = CauseKind(
        id="cosmic-ray",
        words="a particle turned a bit over in memory",
        signature="one weight changes by a power of two between two steps",
        weighs={"one-bit-differs": 9.0, "quiet-before": 1.0},
        place=lambda record: CauseSite("optimizer", module=record.tensors[0].module),
        remedies=lambda _: [Remedy("skip-nonfinite", why="the step is left out")],
    )
    ranked = rank(["one-bit-differs", "quiet-before"], [*CAUSES, toy])
    assert ranked[0].cause == "cosmic-ray"
    assert ranked[0].confidence > 0.95
    assert rank(["one-bit-differs", "quiet-before"])[0].cause != "cosmic-ray"
    assert "| `cosmic-ray` | a particle turned a bit over in memory | one" in cause_table([toy])
