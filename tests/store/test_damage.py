"""What of a run's folder cannot be read is left out and said; the rest is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exploding_record import exploding_run
from gainstage.facts.codec import json_safe
from gainstage.facts.fault import Fault, Site
from gainstage.facts.observation import BackwardCalled, Observation
from gainstage.facts.run_info import RunInfo
from gainstage.facts.treatment_event import GuardAction, TreatmentState
from gainstage.store.journal import append_line, write_text
from gainstage.store.reader import load
from gainstage.store.sites import append_fault, append_observation

STATE = TreatmentState(
    event="ended",
    rank=0,
    treat="clip-value:value=2",
    remedy="clip-value",
    settings={"value": float("inf"), "only": "rnn.*"},
    step=3,
    touched=2,
)
ACTION = GuardAction(
    event="skipped", rank=0, treat="skip", remedy="guard", step=3, time=1.5, message="a NaN"
)
LINES = {
    "observations.jsonl": json_safe(Observation(BackwardCalled(), 0, "train.py", 3)),
    "faults.jsonl": Fault(3, "domain", "forward", Site("log")).as_json(),
    "treatments.jsonl": json_safe(STATE),
    "symptoms.jsonl": {
        "symptom": "loss-nonfinite",
        "severity": "critical",
        "step": 3,
        "message": "the loss is NaN",
        "evidence": {"last_step": 3, "count": 1, "value": "nan", "at_step": 3},
    },
}


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize(
    ("key", "wrong"),
    [("step", "many"), ("step", None)],
    ids=["of another type", "without what it needs"],
)
def test_a_line_that_does_not_validate_is_left_out_and_said(
    name: str, key: str, wrong: str | None, tmp_path: Path
) -> None:
    folder = exploding_run(tmp_path / "run")
    assert load(folder).damage == ()
    line = LINES[name]
    bad = {each: value for each, value in {**line, key: wrong}.items() if value is not None}
    for each in (line, bad, line):
        append_line(folder / name, each)
    run = load(folder)
    (said,) = run.damage
    assert said.startswith(f"{name}: a line is left out: ")
    read = {
        "observations.jsonl": run.observations(),
        "faults.jsonl": run.faults(),
        "treatments.jsonl": run.treatments,
    }
    assert len(read.get(name, (1, 2))) == 2


def test_treatments_come_back_as_they_were_written(tmp_path: Path) -> None:
    folder = exploding_run(tmp_path / "run")
    for event in (STATE, ACTION):
        append_line(folder / "treatments.jsonl", json_safe(event))
    state, action = load(folder).treatments
    assert state == STATE
    assert action == ACTION


@pytest.mark.parametrize(
    "text", ["", "[]", '{"argv": 3}', '{"schema": "gainstage.other/1"}', '{"pid": "x"}']
)
def test_a_run_whose_information_is_damaged_is_read_without_it(text: str, tmp_path: Path) -> None:
    folder = exploding_run(tmp_path / "run")
    write_text(folder / "run.json", text)
    run = load(folder)
    assert run.info == RunInfo()
    assert len(run.block()) == 60
    (said,) = run.damage
    assert said.startswith("run.json cannot be read: ")


def test_sites_that_are_damaged_are_none_and_said(tmp_path: Path) -> None:
    folder = exploding_run(tmp_path / "run")
    path = folder / "sites.json"
    sites = json.loads(path.read_text())
    sites["graphs"][0]["nodes"][0] = -2
    path.write_text(json.dumps(sites))
    run = load(folder)
    assert run.sites() == ()
    assert "sites.json cannot be read: Expected `int` >= -1" in run.damage[0]


def test_facts_of_every_rank_are_looked_at(tmp_path: Path) -> None:
    folder = exploding_run(tmp_path / "run", ranks=2)
    append_fault(folder, 1, Fault(3, "domain", "forward", Site("log")))
    append_observation(folder, 1, Observation(BackwardCalled(), 0))
    append_line(folder / "observations.rank=1.jsonl", {"kind": "nope"})
    run = load(folder)
    assert len(run.faults(1)) == len(run.observations(1)) == 1
    assert run.damage == ("observations.rank=1.jsonl: a line is left out: there is no kind 'nope'",)
