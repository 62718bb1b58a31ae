"""All detectors over a record, block by block as it grows, or whole."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gainstage.detect import (
    gradient_growth,
    gradient_nonfinite,
    gradient_norm,
    gradient_spike,
    loss_divergence,
    loss_nonfinite,
    weight_growth,
)
from gainstage.detect.history import History
from gainstage.detect.sign import Sign
from gainstage.detect.verdict import verdict_of
from gainstage.records import (
    SEVERITIES,
    Findings,
    Severity,
    StepBlock,
    Symptom,
    TensorInfo,
    WeightBlock,
)

_REMEMBERED = 100
"""Steps for which a strong sign stays one, as a companion to another."""


@dataclass(slots=True)
class _Group:
    """The steps that had gradients for the same tensors: one optimizer's of several."""

    norm: History = field(default_factory=History)
    loss: History = field(default_factory=History)
    growth: gradient_growth.Growth = field(default_factory=gradient_growth.Growth)
    level: gradient_norm.Level = field(default_factory=gradient_norm.Level)
    spike: gradient_spike.Spike = field(default_factory=gradient_spike.Spike)
    divergence: loss_divergence.Divergence = field(default_factory=loss_divergence.Divergence)


@dataclass(slots=True)
class ScanState:
    """What the detectors remember of a run: bounded, however long it is."""

    tensors: tuple[TensorInfo, ...]
    steps: int = 0
    groups: dict[bytes, _Group] = field(default_factory=dict[bytes, _Group])
    weights: weight_growth.Weights = field(default_factory=weight_growth.Weights)
    symptoms: dict[str, Symptom] = field(default_factory=dict[str, Symptom])
    strong: dict[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]])
    """By family: the step of the latest strong sign, and its symptom."""
    told: dict[str, tuple[Severity, int]] = field(default_factory=dict[str, tuple[Severity, int]])


def start(tensors: Sequence[TensorInfo]) -> ScanState:
    """Return the state before the first step."""
    return ScanState(tuple(tensors))


def update(
    state: ScanState,
    block: StepBlock,
    weights: WeightBlock | None,
    tensors: Sequence[TensorInfo] | None = None,
) -> tuple[ScanState, tuple[Symptom, ...]]:
    """Take in the next steps.

    Args:
        state: As `start` or the last `update` returned it; it is changed and returned.
        block: Steps in order; how a record is cut into blocks makes no difference.
        weights: Samples of the weights among them.
        tensors: Where tensors have been added since.

    Returns:
        The state, and the symptoms that are new, have become worse, or were seen twice as often as
        when they were last returned.
    """
    if tensors is not None:
        state.tensors = tuple(tensors)
    for sign in sorted(_signs(state, block, weights), key=lambda each: each.last_step):
        _note(state, sign)
    if len(block):
        state.steps = max(state.steps, int(block.step[-1]) + 1)
    changed = [symptom for symptom in state.symptoms.values() if _is_news(state, symptom)]
    for symptom in changed:
        state.told[symptom.symptom] = (symptom.severity, symptom.evidence["count"])
    return state, tuple(changed)


def findings(state: ScanState) -> Findings:
    """Return what was found so far, the worst first, then the earliest."""
    return _findings(state.symptoms.values(), state.steps)


def find(
    ranks: Mapping[int, tuple[Sequence[TensorInfo], StepBlock, WeightBlock]],
) -> Findings:
    """Return what a whole record shows, all ranks together: each symptom where it is worst."""
    symptoms: dict[str, Symptom] = {}
    steps = 0
    for rank, (tensors, block, weights) in ranks.items():
        state, _ = update(start(tensors), block, weights)
        steps = max(steps, state.steps)
        for symptom in state.symptoms.values():
            if len(ranks) > 1:
                symptom = replace(symptom, evidence={**symptom.evidence, "rank": rank})
            known = symptoms.get(symptom.symptom)
            if known is None or _order(symptom) < _order(known):
                symptoms[symptom.symptom] = symptom
    return _findings(symptoms.values(), steps)


def _signs(state: ScanState, block: StepBlock, weights: WeightBlock | None) -> list[Sign]:
    signs = [
        sign
        for sign in (loss_nonfinite.look(block), gradient_nonfinite.look(block, state.tensors))
        if sign is not None
    ]
    if len(block):
        signs += _signs_of_rows(state, block)
    if weights is not None and len(weights):
        signs += weight_growth.look(state.weights, weights, state.tensors)
    return signs


def _signs_of_rows(state: ScanState, block: StepBlock) -> list[Sign]:
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = np.log2(block.grad_norm).tolist()
    losses = np.where(block.has_loss, block.loss, np.nan).tolist()
    steps = block.step.tolist()
    keys = _keys(block)
    signs: list[Sign] = []
    for step, bit, loss, key in zip(steps, bits, losses, keys, strict=True):
        group = state.groups.get(key)
        if group is None:
            group = state.groups[key] = _Group()
        found: list[Sign | None] = []
        if math.isfinite(loss):
            group.loss.push(step, loss)
            found.append(loss_divergence.look(group.divergence, group.loss, step))
        if math.isfinite(bit):
            group.norm.push(step, bit)
            found.append(gradient_growth.look(group.growth, group.norm, step))
            found.append(gradient_norm.look(group.level, group.norm, step))
            found.append(gradient_spike.look(group.spike, group.norm, group.loss, step))
        signs += [sign for sign in found if sign is not None]
    return signs


def _keys(block: StepBlock) -> list[bytes]:
    """Return, for every row, which tensors had a gradient, however many there are by now."""
    if block.present.all():
        return [np.packbits(block.present[0]).tobytes().rstrip(b"\0")] * len(block)
    return [row.tobytes().rstrip(b"\0") for row in np.packbits(block.present, axis=1)]


def _note(state: ScanState, sign: Sign) -> None:
    severity = sign.severity
    if sign.strong:
        state.strong[sign.family] = (sign.step, sign.symptom)
        companions = {
            symptom
            for family, (step, symptom) in state.strong.items()
            if family != sign.family and sign.step - step <= _REMEMBERED
        }
        if companions:
            severity = "critical"
            for symptom in companions & state.symptoms.keys():
                known = state.symptoms[symptom]
                state.symptoms[symptom] = replace(known, severity="critical")
    known = state.symptoms.get(sign.symptom)
    if known is None:
        evidence = {**sign.evidence, "last_step": sign.last_step, "count": sign.count}
        state.symptoms[sign.symptom] = Symptom(
            sign.symptom, severity, sign.step, sign.message, evidence
        )
        return
    worse = SEVERITIES.index(severity) > SEVERITIES.index(known.severity)
    evidence = {
        **(sign.evidence if worse else known.evidence),
        "last_step": max(sign.last_step, known.evidence["last_step"]),
        "count": known.evidence["count"] + sign.count,
    }
    state.symptoms[sign.symptom] = replace(
        known,
        severity=severity if worse else known.severity,
        message=sign.message if worse else known.message,
        evidence=evidence,
    )


def _is_news(state: ScanState, symptom: Symptom) -> bool:
    told = state.told.get(symptom.symptom)
    if told is None:
        return True
    severity, count = told
    return severity != symptom.severity or symptom.evidence["count"] >= 2 * count


def _findings(symptoms: Iterable[Symptom], steps: int) -> Findings:
    ordered = tuple(sorted(symptoms, key=_order))
    return Findings(steps, verdict_of(ordered, steps - 1), ordered)


def _order(symptom: Symptom) -> tuple[int, int]:
    return -SEVERITIES.index(symptom.severity), symptom.step
