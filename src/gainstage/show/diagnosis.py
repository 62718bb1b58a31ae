"""A diagnosis as sentences: why, where, and what to do about it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from gainstage.facts.diagnosis import CauseSite, Diagnosis, Evidence, Remedy
from gainstage.facts.run_info import RunInfo
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


def strongest(diagnosis: Diagnosis) -> Evidence | None:
    """Return the piece of evidence that speaks most for the cause, if any speaks for it."""
    for_it = [each for each in diagnosis.evidence if each.bits > 0]
    return max(for_it, key=lambda each: each.bits, default=None)


def why_lines(diagnosis: Diagnosis) -> list[str]:
    """Return the cause with how sure it is, and the strongest evidence for it."""
    sure = diagnosis.confidence
    others = [
        f"{cause_words(alternative.cause)} ({alternative.confidence:.2f})"
        for alternative in diagnosis.alternatives
        if alternative.confidence >= _AS_LIKELY * sure
    ]
    also = f", or {others[0]}" if others else ""
    perhaps = "the record does not tell; perhaps " if sure < _A_GUESS else ""
    lines = [f"{perhaps}{cause_words(diagnosis.cause)} (confidence {sure:.2f}){also}"]
    evidence = strongest(diagnosis)
    return lines if evidence is None else [*lines, evidence.text]


def where_lines(diagnosis: Diagnosis, info: RunInfo) -> list[str]:
    """Return file, line and the line's text; then operation, module, time step and samples."""
    site = diagnosis.site
    lines: list[str] = []
    if site.file:
        source = source_of(site.file, site.line, info)
        text = f"   {source.text}" if source is not None and not source.is_newer else ""
        lines.append(f"{near_path(site.file, info)}:{site.line}{text}")
    within = ", ".join(place_words(site))
    return [*lines, within] if within else lines


def place_words(site: CauseSite) -> list[str]:
    """Return what is known of a site besides its line."""
    named = (("operation", site.op), ("module", site.module), ("parameter", site.parameter))
    words = [f"{noun} {name}" for noun, name in named if name]
    if site.time_step is not None:
        words.append(f"time step {site.time_step}")
    if site.samples:
        words.append(samples_text(site.samples, site.samples_in_all))
    return words


def fix_lines(diagnosis: Diagnosis, tried: Sequence[str] = ()) -> list[str]:
    """Return what to do, the simplest first: a treatment, and a change of the code.

    Args:
        diagnosis: Of the run.
        tried: Ids of remedies that the run was treated with already.
    """
    remedies, outside = diagnosis.remedies, _outside(diagnosis, tried)
    by_hand = [r for r in remedies if not treat_text(r)]
    first = [f"--treat {treat_text(each)}   {each.why}" for each in outside[:1]]
    second = [_by_hand(remedy) for remedy in by_hand[:1]]
    # Where the diagnosis puts a change of the code first, no treatment is as good.
    return second + first if remedies and not treat_text(remedies[0]) else first + second


def _by_hand(remedy: Remedy) -> str:
    """Return a remedy that no option of `run` applies."""
    return f"in the code: {remedy.why}" if remedy.remedy == "code-change" else remedy.why


def first_treatment(diagnosis: Diagnosis, tried: Sequence[str] = ()) -> str | None:
    """Return the first remedy from outside that was not tried, as `--treat` takes it."""
    return next((treat_text(each) for each in _outside(diagnosis, tried)), None)


def _outside(diagnosis: Diagnosis, tried: Sequence[str]) -> list[Remedy]:
    return [each for each in diagnosis.remedies if treat_text(each) and each.remedy not in tried]


def said_by_evidence(diagnosis: Diagnosis | None) -> str | None:
    """Return the symptom that the strongest evidence tells already."""
    evidence = None if diagnosis is None else strongest(diagnosis)
    return None if evidence is None else _SAME.get(evidence.evidence)


def script_command(verb: str, info: RunInfo) -> str | None:
    """Return the command that hands the run's script and its arguments to a verb.

    None for a notebook, whose cells no command runs.
    """
    argv = list(info.argv or ())
    if info.script == "notebook":
        return None
    return f"gainstage {verb} {shlex.join(argv)}" if argv else None
