"""A symptom as the findings contract writes it, and back; and its sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, cast, get_args, get_type_hints

from gainstage.detect.kind.symptom_kind import SymptomKind
from gainstage.detect.kinds import KINDS, kind_of
from gainstage.facts.codec import DecodeError, from_builtins, json_safe
from gainstage.facts.symptom import SEVERITIES, Symptom

_COMMON = ("last_step", "count", "recovered_step", "rank")
"""Fields of a symptom that its JSON has among the evidence."""


def message_of(symptom: Symptom, kinds: Sequence[SymptomKind] = KINDS) -> str:
    """Return the sentence that a person reads: made of the evidence, and read by no code."""
    return kind_of(symptom.symptom, kinds).message(symptom.evidence)


def site_of(symptom: Symptom, kinds: Sequence[SymptomKind] = KINDS) -> int | None:
    """Return the number of the operation that a symptom names, None where it names none."""
    return kind_of(symptom.symptom, kinds).site(symptom.evidence)


def evidence_json(symptom: Symptom) -> dict[str, Any]:
    """Return the numbers of a symptom, with `last_step` and `count`, in the types of JSON."""
    common = {name: getattr(symptom, name) for name in _COMMON}
    return {
        **json_safe(symptom.evidence),
        **{name: value for name, value in common.items() if value is not None},
    }


def symptom_json(symptom: Symptom, kinds: Sequence[SymptomKind] = KINDS) -> dict[str, Any]:
    """Return a symptom as symptoms.jsonl and findings.json hold it."""
    return {
        "symptom": symptom.symptom,
        "severity": symptom.severity,
        "step": symptom.step,
        "message": message_of(symptom, kinds),
        "evidence": evidence_json(symptom),
    }


def symptom_from_json(line: Mapping[str, Any], kinds: Sequence[SymptomKind] = KINDS) -> Symptom:
    """Return the symptom that `symptom_json` has written.

    Raises:
        DecodeError: If there is no such symptom, or it lacks something.
    """
    try:
        kind = kind_of(line["symptom"], kinds)
        if line["severity"] not in SEVERITIES:
            raise DecodeError(f"no severity: {line['severity']!r}")
        evidence = cast("dict[str, Any]", line["evidence"])
        return Symptom(
            symptom=kind.id,
            severity=line["severity"],
            step=int(line["step"]),
            evidence=from_builtins(evidence, _class_of(kind, evidence)),
            last_step=int(evidence["last_step"]),
            count=int(evidence["count"]),
            recovered_step=_whole(evidence.get("recovered_step")),
            rank=_whole(evidence.get("rank")),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise DecodeError(f"it lacks or has a wrong {error}") from error


def _class_of(kind: SymptomKind, evidence: Mapping[str, Any]) -> type:
    """Return the class of a kind's evidence that JSON is of."""
    if len(kind.evidence) == 1:
        return kind.evidence[0]
    for each in kind.evidence:
        if evidence.get("form") in _forms(each):
            return each
    raise DecodeError(f"{kind.id} has no form {evidence.get('form')!r}")


@cache
def _forms(evidence: type) -> tuple[str, ...]:
    return get_args(get_type_hints(evidence)["form"])


def _whole(value: object) -> int | None:
    return None if value is None else int(str(value))
