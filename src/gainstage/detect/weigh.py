"""Weighs signals together: what is a note, a warning or critical, and what turned out harmless."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gainstage.detect.kind.feed import Seen
from gainstage.detect.kind.symptom_kind import Family
from gainstage.facts.symptom import SEVERITIES, Severity, Symptom

_REMEMBERED = 100
"""Steps for which a strong signal stays one, as a companion to another."""


@dataclass(slots=True)
class Weighed:
    """What was seen so far, each symptom once."""

    symptoms: dict[str, Symptom] = field(default_factory=dict[str, Symptom])
    strong: dict[Family, tuple[int, str]] = field(default_factory=dict[Family, tuple[int, str]])
    """By family: the step of the latest strong signal, and its symptom."""
    reported: dict[str, tuple[Severity, int]] = field(
        default_factory=dict[str, tuple[Severity, int]]
    )
    """By symptom: severity and count when it was last reported."""


def weigh(weighed: Weighed, seen: Seen) -> None:
    """Take one signal in, in the order of the steps at which they were seen last."""
    _settle(weighed, seen)
    severity = _severity(weighed, seen)
    signal, name = seen.signal, seen.kind.id
    known = weighed.symptoms.get(name)
    if known is None:
        weighed.symptoms[name] = Symptom(
            name, severity, signal.step, signal.evidence, signal.last_step, signal.count
        )
        return
    known = replace(
        known,
        last_step=max(signal.last_step, known.last_step),
        count=known.count + signal.count,
    )
    if SEVERITIES.index(severity) > SEVERITIES.index(known.severity):
        known = replace(
            known,
            # What was but a note is an alarm from now on, not from then.
            step=signal.step if known.severity == "info" else known.step,
            severity=severity,
            evidence=signal.evidence,
            recovered_step=None,
        )
    weighed.symptoms[name] = known


def news(weighed: Weighed) -> tuple[Symptom, ...]:
    """Return the symptoms that are new, have become worse, or were seen twice as often as then."""
    changed = tuple(each for each in weighed.symptoms.values() if _is_news(weighed, each))
    for symptom in changed:
        weighed.reported[symptom.symptom] = (symptom.severity, symptom.count)
    return changed


def _settle(weighed: Weighed, seen: Seen) -> None:
    """Turn the warnings that a signal explains as harmless into notes."""
    for name in seen.kind.settles & weighed.symptoms.keys():
        known = weighed.symptoms[name]
        if known.severity == "warning" and known.step >= seen.signal.step:
            weighed.symptoms[name] = replace(
                known, severity="info", recovered_step=seen.signal.last_step
            )


def _severity(weighed: Weighed, seen: Seen) -> Severity:
    """Return a signal's severity: critical where a strong one of another family stands beside it.

    That one becomes critical as well.
    """
    signal = seen.signal
    if not signal.is_strong:
        return signal.severity
    weighed.strong[seen.family] = (signal.step, seen.kind.id)
    companions = {
        symptom
        for family, (step, symptom) in weighed.strong.items()
        if family != seen.family and signal.step - step <= _REMEMBERED
    }
    for name in companions & weighed.symptoms.keys():
        weighed.symptoms[name] = replace(weighed.symptoms[name], severity="critical")
    return "critical" if companions else signal.severity


def _is_news(weighed: Weighed, symptom: Symptom) -> bool:
    reported = weighed.reported.get(symptom.symptom)
    if reported is None:
        return True
    severity, count = reported
    return severity != symptom.severity or symptom.count >= 2 * count
