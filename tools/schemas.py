"""Write the JSON Schemas and the front end's types from the facts: `make schemas`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from fact_schemas import NUMBER, Schema, class_schema, classes_within
from symptom_schemas import evidence_definitions, symptom_forms
from typescript import types_of

from gainstage.diagnose.causes import CAUSES
from gainstage.facts.diagnosis import BY_HAND
from gainstage.facts.fault import Fault
from gainstage.facts.findings import FINDINGS_SCHEMA, Findings
from gainstage.facts.observation import OBSERVED, Observation
from gainstage.facts.prescription import Prescription
from gainstage.facts.run_info import RunInfo
from gainstage.facts.sites_file import SitesFile
from gainstage.facts.treatment_event import GuardAction, TreatmentState
from gainstage.treat.kinds import KINDS as TREATMENTS

ROOT = Path(__file__).parents[1]
SCHEMAS = ROOT / "src" / "gainstage" / "schemas"
TYPES = ROOT / "frontend" / "src" / "facts.ts"

MESSAGE: Schema = {"description": "One sentence for people.", "type": "string"}
CAUSE: Schema = {"enum": [kind.id for kind in CAUSES]}


@dataclass(frozen=True, kw_only=True)
class Document:
    """One schema: of a file, or of a line of it."""

    title: str
    type_name: str
    """In TypeScript."""
    facts: tuple[type, ...]
    """Several where each line is one of them; none for a line of symptoms.jsonl."""
    is_open: bool = False
    """Whether other keys than those of the fact may stand there."""
    changes: Mapping[tuple[str, str], Schema] = field(default_factory=dict[tuple[str, str], Schema])
    """By class and key: what stands there instead, or besides what the class has."""
    sparse: tuple[str, ...] = ()
    """Classes of which JSON leaves out what has its default."""


DOCUMENTS: dict[str, Document] = {
    "faults": Document(
        type_name="Fault",
        title="A line of faults.jsonl: the first wrong operation of a step",
        facts=(Fault,),
        changes={("Fault", "message"): MESSAGE},
        sparse=("FaultEvidence",),
    ),
    "findings": Document(
        type_name="Findings",
        title="What `report --json` and `diagnose --json` print; findings.json",
        facts=(Findings,),
        changes={
            ("Findings", "schema"): {"const": FINDINGS_SCHEMA},
            ("Findings", "symptoms"): {"type": "array", "items": {"$ref": "#/$defs/Symptom"}},
            ("Diagnosis", "cause"): CAUSE,
            ("Alternative", "cause"): CAUSE,
            ("Remedy", "remedy"): {"enum": list(dict.fromkeys([*TREATMENTS, *BY_HAND]))},
        },
    ),
    "observations": Document(
        type_name="Observation",
        title="A line of observations.jsonl: something that the script does",
        facts=(Observation,),
    ),
    "prescription": Document(
        type_name="Prescription",
        title="What `prescribe --json` prints; prescription.json",
        facts=(Prescription,),
        changes={("UntreatedTrial", "cause"): {"enum": [*CAUSE["enum"], None]}},
    ),
    "run": Document(
        type_name="RunInfo",
        title="run.json: what ran, and how it ended",
        facts=(RunInfo,),
        is_open=True,
    ),
    "sites": Document(
        type_name="SitesFile",
        title="sites.json: places in the code that make graph nodes",
        facts=(SitesFile,),
    ),
    "symptoms": Document(
        type_name="SymptomLine",
        title="A line of symptoms.jsonl: a symptom, new or changed",
        facts=(),
    ),
    "treatments": Document(
        type_name="TreatmentEvent",
        title="A line of treatments.jsonl: what a treatment or guard did",
        facts=(TreatmentState, GuardAction),
    ),
}


def files() -> dict[Path, str]:
    """Return by its path the text of each file that comes from the facts."""
    schemas = {name: schema_of(name, document) for name, document in DOCUMENTS.items()}
    texts = {
        SCHEMAS / f"{name}.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for name, schema in schemas.items()
    }
    types = {DOCUMENTS[name].type_name: schema for name, schema in schemas.items()}
    return {**texts, TYPES: types_of(types)}


def schema_of(name: str, document: Document) -> Schema:
    """Return a document's schema, with a definition for each class that it is made of."""
    classes: dict[str, type] = {}
    for fact in OBSERVED.values() if name == "observations" else document.facts:
        classes |= classes_within(fact)
    classes.pop("Symptom", None)
    definitions = {each: _class(kind, document) for each, kind in classes.items()}
    match name:
        case "observations":
            roots = [_observation(each) for each in OBSERVED]
        case "symptoms":
            roots = symptom_forms(with_rank=True)
        case _:
            roots = [definitions[fact.__name__] for fact in document.facts]
    for fact in document.facts:
        definitions.pop(fact.__name__, None)
    if name in ("symptoms", "findings"):
        definitions |= evidence_definitions()
    if name == "findings":
        definitions["Symptom"] = {"oneOf": symptom_forms()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:gainstage:{name}:1",
        "title": document.title,
        **(roots[0] if len(roots) == 1 else {"oneOf": roots}),
        "$defs": {"JsonNumber": NUMBER, **dict(sorted(definitions.items()))},
    }


def _class(kind: type, document: Document) -> Schema:
    is_open = document.is_open and kind in document.facts
    return class_schema(kind, document.changes, sparse=document.sparse, is_open=is_open)


def _observation(kind: str) -> Schema:
    """Return what an observation of a kind is: its evidence is of that kind's class."""
    schema = class_schema(
        Observation,
        {
            ("Observation", "evidence"): {"$ref": f"#/$defs/{OBSERVED[kind].__name__}"},
            ("Observation", "kind"): {"const": kind},
        },
    )
    del schema["description"]
    return schema


def main() -> int:
    """Write what is not as the facts say; with `--check`, only say so."""
    texts = files()
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        print(path.relative_to(ROOT))
        if "--check" not in sys.argv[1:]:
            path.write_text(texts[path], encoding="utf-8")
    return 1 if stale and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
