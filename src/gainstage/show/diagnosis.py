"""A diagnosis as sentences: why, where, and what to do about it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from gainstage.show.source import source_of
from gainstage.show.wording import cause_words, near_path, samples_text, treat_text

_AS_LIKELY = 0.5
"""An alternative with at least this share of the first cause's confidence is told with it."""
_A_GUESS = 0.35
"""Below it the first cause is more likely wrong than right, and is said to be a guess."""
_SAME: Mapping[str, str] = {
    "depth-grows-at-first-step": "depth-gain",
    "time-grows-at-first-step": "time-gain",
    "time-grows-later": "time-gain",
}
"""Rows of the evidence table that say what a symptom says."""

Diagnosis = Mapping[str, Any]


def strongest(diagnosis: Diagnosis) -> Mapping[str, Any] | None:
    """Return the piece of evidence that speaks most for the cause, if any speaks for it."""
    lines: Sequence[Mapping[str, Any]] = diagnosis.get("evidence") or ()
    for_it = [each for each in lines if each.get("bits", 0) > 0]
    return max(for_it, key=lambda each: each["bits"], default=None)


def why_lines(diagnosis: Diagnosis) -> list[str]:
    """Return the cause with how sure it is, and the strongest evidence for it."""
    sure = diagnosis["confidence"]
    others = [
        f"{cause_words(each['cause'])} ({each['confidence']:.2f})"
        for each in diagnosis.get("alternatives") or ()
        if each["confidence"] >= _AS_LIKELY * sure
    ]
    also = f", or {others[0]}" if others else ""
    perhaps = "the record does not tell; perhaps " if sure < _A_GUESS else ""
    lines = [f"{perhaps}{cause_words(diagnosis['cause'])} (confidence {sure:.2f}){also}"]
    evidence = strongest(diagnosis)
    return lines if evidence is None else [*lines, str(evidence["text"])]


def where_lines(diagnosis: Diagnosis, info: Mapping[str, Any]) -> list[str]:
    """Return file, line and the line's text; then operation, module, time step and samples."""
    site: Mapping[str, Any] = diagnosis.get("site") or {}
    lines: list[str] = []
    if site.get("file"):
        source = source_of(site, info)
        text = f"   {source.text}" if source is not None and not source.is_newer else ""
        lines.append(f"{near_path(str(site['file']), info)}:{site.get('line')}{text}")
    within = ", ".join(place_words(site))
    return [*lines, within] if within else lines


def place_words(site: Mapping[str, Any]) -> list[str]:
    """Return what is known of a site besides its line."""
    said = [
        f"{name} {site[key]}"
        for key, name in (("op", "operation"), ("module", "module"), ("parameter", "parameter"))
        if site.get(key)
    ]
    if site.get("time_step") is not None:
        said.append(f"time step {site['time_step']}")
    if site.get("samples"):
        said.append(samples_text(site["samples"], site.get("samples_in_all")))
    return said


def fix_lines(diagnosis: Diagnosis, tried: Sequence[str] = ()) -> list[str]:
    """Return what to do, the simplest first: a treatment, and a change of the code.

    Args:
        diagnosis: Of the run.
        tried: Ids of remedies that the run was treated with already.
    """
    remedies: Sequence[Mapping[str, Any]] = diagnosis.get("remedies") or ()
    outside = _outside(diagnosis, tried)
    by_hand = [r for r in remedies if not treat_text(r)]
    first = [f"--treat {treat_text(each)}   {each.get('why', '')}" for each in outside[:1]]
    second = [f"in the code: {each.get('why', '')}" for each in by_hand[:1]]
    # Where the diagnosis puts a change of the code first, no treatment is as good.
    return second + first if remedies and not treat_text(remedies[0]) else first + second


def first_treatment(diagnosis: Diagnosis, tried: Sequence[str] = ()) -> str | None:
    """Return the first remedy from outside that was not tried, as `--treat` takes it."""
    return next((treat_text(each) for each in _outside(diagnosis, tried)), None)


def _outside(diagnosis: Diagnosis, tried: Sequence[str]) -> list[Mapping[str, Any]]:
    remedies: Sequence[Mapping[str, Any]] = diagnosis.get("remedies") or ()
    return [each for each in remedies if treat_text(each) and each["remedy"] not in tried]


def said_by_evidence(diagnosis: Diagnosis | None) -> str | None:
    """Return the symptom that the strongest evidence tells already."""
    evidence = None if diagnosis is None else strongest(diagnosis)
    return None if evidence is None else _SAME.get(str(evidence.get("evidence")))


def script_command(verb: str, info: Mapping[str, Any]) -> str | None:
    """Return the command that hands the run's script and its arguments to a verb.

    None for a notebook, whose cells no command runs.
    """
    argv = [str(each) for each in info.get("argv") or []]
    if info.get("script") == "notebook":
        return None
    return f"gainstage {verb} {shlex.join(argv)}" if argv else None
