"""The JSON Schema of a symptom: one form for each kind that `detect` registers."""

from __future__ import annotations

from fact_schemas import Schema, class_schema, classes_within

from gainstage.detect.kinds import KINDS
from gainstage.facts.symptom import SEVERITIES

STEP: Schema = {"type": "integer", "minimum": 0}
RANK: Schema = {
    "description": "The process; absent for the first.",
    "type": "integer",
    "minimum": 1,
}
_BESIDES: dict[str, Schema] = {
    "last_step": {"description": "The last step at which it was seen.", **STEP},
    "count": {"description": "Steps on which it was seen.", "type": "integer", "minimum": 1},
    "recovered_step": {
        "description": "Step at which it turned out to be harmless.",
        **STEP,
        "optional": True,
    },
    "rank": {
        "description": "The process that showed it, where several trained.",
        **STEP,
        "optional": True,
    },
}


def evidence_definitions() -> dict[str, Schema]:
    """Return by name the evidence of all kinds of symptoms, and what it is made of."""
    definitions: dict[str, Schema] = {}
    for kind in KINDS:
        for evidence in kind.evidence:
            changes = {(evidence.__name__, key): schema for key, schema in _BESIDES.items()}
            classes = classes_within(evidence)
            definitions |= {name: class_schema(each, changes) for name, each in classes.items()}
    return definitions


def symptom_forms(*, with_rank: bool = False) -> list[Schema]:
    """Return what a symptom of each kind is.

    Args:
        with_rank: Whether it names its process, as a line of symptoms.jsonl does.
    """
    return [_form(kind.id, kind.evidence, with_rank=with_rank) for kind in KINDS]


def _form(symptom: str, evidence: tuple[type, ...], *, with_rank: bool) -> Schema:
    references = [{"$ref": f"#/$defs/{each.__name__}"} for each in evidence]
    properties: dict[str, Schema] = {
        "symptom": {"const": symptom},
        "severity": {"enum": list(SEVERITIES)},
        "step": {"description": "The first step at which it was seen.", **STEP},
        "message": {"description": "One sentence for people.", "type": "string"},
        "evidence": references[0] if len(references) == 1 else {"anyOf": references},
    }
    return {
        "type": "object",
        "properties": {**properties, **({"rank": RANK} if with_rank else {})},
        "required": sorted(properties),
        "additionalProperties": False,
    }
