"""All detectors over a record, block by block as it grows, or whole."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gainstage.detect import (
    chunks,
    clip_activity,
    depth_gain,
    gradient_growth,
    gradient_imbalance,
    gradient_nonfinite,
    gradient_norm,
    gradient_spike,
    gradient_vanishing,
    headroom_low,
    loss_divergence,
    loss_nonfinite,
    overflow_forecast,
    step_skipped,
    time_gain,
    update_nonfinite,
    update_spike,
    weight_growth,
)
from gainstage.detect.history import History
from gainstage.detect.sign import Sign
from gainstage.detect.trend import LARGEST
from gainstage.detect.verdict import verdict_of
from gainstage.records import (
    SEVERITIES,
    Fault,
    Findings,
    ProfileBlock,
    RankRecord,
    Severity,
    StepBlock,
    Symptom,
    TensorInfo,
    TimeBlock,
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
    update: update_spike.Update = field(default_factory=update_spike.Update)
    forecast: overflow_forecast.Watched = field(default_factory=overflow_forecast.Watched)


@dataclass(slots=True)
class _Pieces:
    """What is judged 16 steps at a time, over all tensors."""

    chunks: chunks.Chunks = field(default_factory=chunks.Chunks)
    vanishing: gradient_vanishing.Vanishing = field(default_factory=gradient_vanishing.Vanishing)
    imbalance: gradient_imbalance.Imbalance = field(default_factory=gradient_imbalance.Imbalance)
    clip: clip_activity.Clip = field(default_factory=clip_activity.Clip)
    skipped: step_skipped.Skipped = field(default_factory=step_skipped.Skipped)


@dataclass(slots=True)
class ScanState:
    """What the detectors remember of a run: bounded, however long it is."""

    tensors: tuple[TensorInfo, ...]
    steps: int = 0
    groups: dict[bytes, _Group] = field(default_factory=dict[bytes, _Group])
    weights: weight_growth.Weights = field(default_factory=weight_growth.Weights)
    pieces: _Pieces = field(default_factory=_Pieces)
    depth: depth_gain.Depth = field(default_factory=depth_gain.Depth)
    time: time_gain.Time = field(default_factory=time_gain.Time)
    headroom: headroom_low.Headroom = field(default_factory=headroom_low.Headroom)
    symptoms: dict[str, Symptom] = field(default_factory=dict[str, Symptom])
    strong: dict[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]])
    """By family: the step of the latest strong sign, and its symptom."""
    told: dict[str, tuple[Severity, int]] = field(default_factory=dict[str, tuple[Severity, int]])

    @property
    def narrowest(self) -> str:
        """The watched dtype with the smallest largest value."""
        dtypes = {info.dtype for info in self.tensors} & LARGEST.keys()
        return min(dtypes, key=LARGEST.__getitem__, default="float32")


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


def see(
    state: ScanState,
    profiles: Iterable[tuple[ProfileBlock, TimeBlock]] = (),
    faults: Iterable[Fault] = (),
) -> ScanState:
    """Take in sampled graphs and what the autopsy found; `update` then tells what is new."""
    signs = [sign for fault in faults if (sign := update_nonfinite.look(fault)) is not None]
    for profile, times in profiles:
        found = (
            depth_gain.look(state.depth, profile),
            headroom_low.look(state.headroom, profile),
            time_gain.look(state.time, times),
        )
        signs += [sign for sign in found if sign is not None]
    for sign in sorted(signs, key=lambda each: each.last_step):
        _note(state, sign)
    return state


def find(records: Sequence[RankRecord]) -> Findings:
    """Return what a whole record shows, all ranks together: each symptom where it is worst."""
    symptoms: dict[str, Symptom] = {}
    steps = 0
    for record in records:
        state = _seen(record)
        steps = max(steps, state.steps)
        for symptom in state.symptoms.values():
            if len(records) > 1:
                symptom = replace(symptom, evidence={**symptom.evidence, "rank": record.rank})
            known = symptoms.get(symptom.symptom)
            if known is None or _order(symptom) < _order(known):
                symptoms[symptom.symptom] = symptom
    return _findings(symptoms.values(), steps)


def symptoms_of(record: RankRecord) -> tuple[Symptom, ...]:
    """Return what the record of one rank shows, the worst first, then the earliest."""
    return tuple(sorted(_seen(record).symptoms.values(), key=_order))


def _seen(record: RankRecord) -> ScanState:
    state, _ = update(start(record.tensors), record.block, record.weights)
    return see(state, sampled_graphs(record.profiles, record.times), record.faults)


def sampled_graphs(
    profiles: ProfileBlock, times: TimeBlock
) -> Iterator[tuple[ProfileBlock, TimeBlock]]:
    """Yield the sampled graphs of a record one by one, in the order in which they were taken."""
    if not len(profiles):
        return
    keys = np.stack([profiles.step, profiles.backward.astype(np.int64)], axis=1)
    starts = np.flatnonzero(np.r_[True, (keys[1:] != keys[:-1]).any(axis=1)])
    ends = np.r_[starts[1:], len(profiles)]
    told: set[int] = set()
    for first, end in zip(starts.tolist(), ends.tolist(), strict=True):
        step = int(profiles.step[first])
        mine = (times.step == step) & (step not in told)
        told.add(step)
        yield (
            ProfileBlock(*[getattr(profiles, n)[first:end] for n in ProfileBlock.__slots__]),
            TimeBlock(*[getattr(times, n)[mine] for n in TimeBlock.__slots__]),
        )


def _signs(state: ScanState, block: StepBlock, weights: WeightBlock | None) -> list[Sign]:
    signs = [
        sign
        for sign in (loss_nonfinite.look(block), gradient_nonfinite.look(block, state.tensors))
        if sign is not None
    ]
    signs += _signs_in_order(state, block, weights)
    for piece in chunks.pieces(state.pieces.chunks, block):
        signs += _signs_of_piece(state, piece)
    return signs


def _signs_in_order(state: ScanState, block: StepBlock, weights: WeightBlock | None) -> list[Sign]:
    """Walk through rows and samples of the weights in the order in which they were taken.

    A sample of step s is taken after row s - 1 and before row s, however the record is cut.
    """
    signs: list[Sign] = []
    start = 0
    for sample in range(0 if weights is None else len(weights)):
        assert weights is not None
        stop = int(np.searchsorted(block.step, weights.step[sample]))
        signs += _signs_of_rows(state, block, start, stop)
        start = max(start, stop)
        signs += _signs_of_sample(state, weights, sample)
    return signs + _signs_of_rows(state, block, start, len(block))


def _signs_of_sample(state: ScanState, weights: WeightBlock, sample: int) -> list[Sign]:
    part = WeightBlock(
        *(
            each[sample : sample + 1]
            for each in (weights.step, weights.weight_norms, weights.present)
        )
    )
    signs = weight_growth.look(state.weights, part, state.tensors)
    for group in state.groups.values():
        if group.level.elasticity:
            sign = gradient_norm.weigh(group.level, state.weights.latest)
            signs += [] if sign is None else [sign]
    return signs


def _signs_of_piece(state: ScanState, piece: StepBlock) -> list[Sign]:
    pieces = state.pieces
    found = [
        gradient_imbalance.look(pieces.imbalance, piece, state.tensors),
        step_skipped.look(pieces.skipped, piece),
        *gradient_vanishing.look(pieces.vanishing, piece, state.tensors),
        *clip_activity.look(pieces.clip, piece),
    ]
    return [sign for sign in found if sign is not None]


def _signs_of_rows(state: ScanState, block: StepBlock, start: int, stop: int) -> list[Sign]:
    if start >= stop:
        return []
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = np.log2(block.grad_norm[start:stop])
        # Without a clip the coefficient is NaN; a gradient clipped to nothing moves nothing.
        scale = np.where(np.isnan(block.clip_coefficient), 1.0, block.clip_coefficient)
        updates = bits + np.log2(block.lr * scale)[start:stop] - state.weights.latest
    losses = np.where(block.has_loss, block.loss, np.nan)[start:stop].tolist()
    rows = zip(
        block.step[start:stop].tolist(),
        bits.tolist(),
        losses,
        updates.tolist(),
        _keys(block)[start:stop],
        strict=True,
    )
    signs: list[Sign] = []
    for step, bit, loss, ratio, key in rows:
        group = state.groups.get(key)
        if group is None:
            group = state.groups[key] = _Group()
        signs += _signs_of_row(group, step, bit, loss, ratio, state.narrowest)
    return signs


def _signs_of_row(
    group: _Group, step: int, bit: float, loss: float, ratio: float, dtype: str
) -> list[Sign]:
    found: list[Sign | None] = []
    if math.isfinite(loss):
        group.loss.push(step, loss)
        found.append(loss_divergence.look(group.divergence, group.loss, step, group.norm))
    if math.isfinite(bit):
        norm = group.norm
        norm.push(step, bit)
        found += [
            gradient_growth.look(group.growth, norm, step),
            gradient_norm.look(group.level, norm, step, loss),
            gradient_spike.look(group.spike, norm, group.loss, step),
            overflow_forecast.look(group.forecast, norm, math.log2(LARGEST[dtype]), dtype, step),
            update_spike.look(
                group.update, norm, ratio_bits=ratio, is_loss_out=group.divergence.is_out, step=step
            ),
        ]
    return [sign for sign in found if sign is not None]


def _keys(block: StepBlock) -> list[bytes]:
    """Return, for every row, which tensors had a gradient, however many there are by now."""
    if block.present.all():
        return [np.packbits(block.present[0]).tobytes().rstrip(b"\0")] * len(block)
    return [row.tobytes().rstrip(b"\0") for row in np.packbits(block.present, axis=1)]


def _note(state: ScanState, sign: Sign) -> None:
    for symptom in sign.settles & state.symptoms.keys():
        known = state.symptoms[symptom]
        if known.severity == "warning" and known.step >= sign.step:
            evidence = {**known.evidence, "recovered_step": sign.last_step}
            state.symptoms[symptom] = replace(known, severity="info", evidence=evidence)
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
