"""The shipped JSON Schemas hold for what real runs write."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonschema import Draft202012Validator
from torch import nn

import gainstage
from gainstage.cli import main
from gainstage.detect.kinds import KINDS as SYMPTOMS
from gainstage.diagnose.causes import CAUSES
from gainstage.facts.codec import to_json
from gainstage.facts.fault import FaultKind
from gainstage.facts.observation import OBSERVED
from gainstage.facts.prescription import TrialOutcome
from gainstage.store.findings import findings_json
from gainstage.store.folder import update_run_info
from gainstage.store.json_schemas import schema_names, schema_text
from gainstage.treat.kinds import KINDS

ROOT = Path(__file__).parents[2]


def schema(name: str) -> dict[str, Any]:
    return json.loads(schema_text(name))


def check(name: str, value: object) -> None:
    Draft202012Validator(schema(name)).validate(value)


def documents(path: Path) -> list[Any]:
    text = path.read_text()
    return (
        [json.loads(line) for line in text.splitlines()]
        if path.suffix == ".jsonl"
        else [json.loads(text)]
    )


def explode(out: Path, **options: Any) -> gainstage.Watch:
    """Train until the loss is NaN and on, with a logarithm that leaves its domain."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))
    with gainstage.watch(out=out, **options) as watch:
        optimizer = torch.optim.SGD(model.parameters(), lr=4.0)
        for _ in range(40):
            optimizer.zero_grad()
            loss = model(torch.randn(16, 4)).pow(4).mean()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1e9)
            optimizer.step()
    return watch


@pytest.mark.parametrize(
    ("options", "files"),
    [
        ({}, {"run", "sites", "symptoms", "faults", "observations"}),
        (
            {"guard": "skip", "treat": ["clip-value:value=1e30", "reinit:kind=he"]},
            {"run", "sites", "symptoms", "observations", "treatments"},
        ),
        ({"guard": "rollback:to=2"}, {"run", "sites", "symptoms", "observations", "treatments"}),
    ],
)
def test_what_a_run_writes_is_as_its_schema_says(
    options: dict[str, Any], files: set[str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    try:
        explode(folder, **options)
    except SystemExit:
        assert "rollback" in options["guard"]
    found: set[str] = set()
    for path in sorted(folder.glob("*.json*")):
        name = path.name.split(".")[0]
        found.add(name)
        for value in documents(path):
            check(name, value)
    assert files <= found
    findings = json.loads(to_json(findings_json(gainstage.load(folder).findings)))
    assert findings["symptoms"]
    check("findings", findings)
    update_run_info(folder, exit={"exception": "ValueError: x"})
    check("run", documents(folder / "run.json")[0])


def test_every_schema_is_one_and_refuses_what_is_not_meant(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["schema"])
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == list(schema_names())
    for name in schema_names():
        with pytest.raises(SystemExit):
            main(["schema", name])
        printed = json.loads(capsys.readouterr().out)
        Draft202012Validator.check_schema(printed)
        assert printed["$id"] == f"urn:gainstage:{name}:1"
        assert not Draft202012Validator(printed).is_valid({})
        assert not Draft202012Validator(printed).is_valid({"schema": "gainstage.other/1"})
    with pytest.raises(SystemExit) as exit_info:
        main(["schema", "nope"])
    assert exit_info.value.code == 2
    assert "no schema 'nope'; there are faults, findings" in capsys.readouterr().err


def test_schemas_and_types_are_those_that_the_facts_give() -> None:
    tool = ROOT / "tools" / "schemas.py"
    done = subprocess.run(
        [sys.executable, tool, "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"run `make schemas`: {done.stdout}{done.stderr[-500:]}"


def test_every_fact_says_what_it_is() -> None:
    for name in schema_names():
        for each, definition in schema(name)["$defs"].items():
            if "properties" in definition:
                assert definition["description"].endswith("."), each


def test_enumerations_are_those_of_the_code() -> None:
    findings = schema("findings")["$defs"]
    assert findings["Diagnosis"]["properties"]["cause"]["enum"] == [kind.id for kind in CAUSES]
    remedies = findings["Remedy"]["properties"]["remedy"]
    assert set(remedies["enum"]) == set(KINDS) | {"fix-data", "code-change"}
    outcome = schema("prescription")["$defs"]["Trial"]["properties"]["outcome"]
    assert outcome["enum"] == sorted(TrialOutcome.__args__)
    observations = [each["properties"]["kind"]["const"] for each in schema("observations")["oneOf"]]
    assert observations == list(OBSERVED)
    fault = schema("faults")["properties"]["kind"]["enum"]
    assert sorted(fault) == sorted(FaultKind.__args__)
    readme = (ROOT / "README.md").read_text()
    symptoms = [form["properties"]["symptom"]["const"] for form in findings["Symptom"]["oneOf"]]
    assert symptoms == [kind.id for kind in SYMPTOMS]
    for symptom in symptoms:
        known = {"normalization-noise", "norm-mismatch"}
        assert symptom in known or f"`{symptom}`" in readme


@pytest.mark.parametrize(
    ("kind", "evidence"),
    [
        ("clip", {"max_norm": "1.0", "parameters": 3, "ratio": 1.0, "acts": True}),
        ("clip", {"max_norm": 1.0, "parameters": -1, "ratio": 1.0, "acts": True}),
        ("clip", {"max_norm": 1.0, "parameters": 3, "ratio": 1.0}),
        ("backward", {"max_norm": 1.0, "parameters": 3, "ratio": 1.0, "acts": True}),
        ("nope", {}),
    ],
)
def test_the_evidence_of_an_observation_is_checked_by_its_kind(kind: str, evidence: dict) -> None:
    line = {"kind": kind, "step": 0, "file": None, "line": None}
    validator = Draft202012Validator(schema("observations"))
    right = {"max_norm": "inf", "parameters": 3, "ratio": 1.0, "acts": True}
    assert validator.is_valid({**line, "kind": "clip", "evidence": right})
    assert not validator.is_valid({**line, "evidence": evidence})


@pytest.mark.parametrize(
    "change",
    [
        {"at_step": None},
        {"at_step": "3"},
        {"count": None},
        {"count": 0},
        {"more": 1},
    ],
)
def test_the_evidence_of_a_symptom_is_checked_by_its_kind(change: dict[str, Any]) -> None:
    line = {"symptom": "loss-nonfinite", "severity": "critical", "step": 3, "message": "NaN"}
    validator = Draft202012Validator(schema("symptoms"))
    right = {"value": "nan", "at_step": 3, "is_without_backward": False, "last_step": 3, "count": 1}
    assert validator.is_valid({**line, "evidence": right})
    assert not validator.is_valid({**line, "evidence": {**right, **change}})
