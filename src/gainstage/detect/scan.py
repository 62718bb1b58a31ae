"""All detectors over a record, block by block as it grows, or whole."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gainstage.detect.gradient import gradient_nonfinite, gradient_norm, norm_mismatch
from gainstage.detect.level import (
    depth_gain,
    headroom_low,
    level_forecast,
    log_forecast,
    normalization_noise,
    time_gain,
)
from gainstage.detect.loss import loss_nonfinite
from gainstage.detect.rows import Group, Pieces, signs_of_piece, signs_of_row
from gainstage.detect.series import chunks
from gainstage.detect.series.sign import Sign
from gainstage.detect.series.trend import LARGEST
from gainstage.detect.update import growth_beyond_updates as weights_pushed
from gainstage.detect.update import step_skipped, update_nonfinite, update_spike, weight_growth
from gainstage.detect.update.update_bounds import largest_falls, usual_updates
from gainstage.detect.verdict import verdict_of
from gainstage.facts.blocks import (
    ProfileBlock,
    StepBlock,
    TimeBlock,
    WeightBlock,
)
from gainstage.facts.fault import Fault
from gainstage.facts.findings import Findings
from gainstage.facts.observation import Observation, Observed
from gainstage.facts.record import RankRecord
from gainstage.facts.symptom import SEVERITIES, Severity, Symptom
from gainstage.facts.tensor import TensorInfo

_REMEMBERED = 100
"""Steps for which a strong sign stays one, as a companion to another."""


@dataclass(slots=True)
class ScanState:
    """What the detectors remember of a run: bounded, however long it is."""

    tensors: tuple[TensorInfo, ...]
    steps: int = 0
    groups: dict[bytes, Group] = field(default_factory=dict[bytes, Group])
    weights: weight_growth.Weights = field(default_factory=weight_growth.Weights)
    updates: weights_pushed.Updates = field(default_factory=weights_pushed.Updates)
    pieces: Pieces = field(default_factory=Pieces)
    depth: depth_gain.Depth = field(default_factory=depth_gain.Depth)
    time: time_gain.Time = field(default_factory=time_gain.Time)
    headroom: headroom_low.Headroom = field(default_factory=headroom_low.Headroom)
    levels: level_forecast.Levels = field(default_factory=level_forecast.Levels)
    logs: log_forecast.Logs = field(default_factory=log_forecast.Logs)
    symptoms: dict[str, Symptom] = field(default_factory=dict[str, Symptom])
    strong: dict[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]])
    """By family: the step of the latest strong sign, and its symptom."""
    told: dict[str, tuple[Severity, int]] = field(default_factory=dict[str, tuple[Severity, int]])

    @property
    def narrowest(self) -> str:
        """The watched dtype with the smallest largest value."""
        dtypes = {info.dtype for info in self.tensors} & LARGEST.keys()
        return min(dtypes, key=LARGEST.__getitem__, default="float32")


_LOOKS_AT_SCRIPT = (norm_mismatch.look, normalization_noise.look, step_skipped.look_at_unheld)


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
    observations: Iterable[Observation[Observed]] = (),
) -> ScanState:
    """Take in sampled graphs, what the autopsy found, and what the script was seen to do.

    `update` then tells what is new.
    """
    looks = (update_nonfinite.look, loss_nonfinite.look_at_fault)
    told = [look(fault) for fault in faults for look in looks]
    observations = tuple(observations)
    state.updates.learn(observations)
    for seen in observations:
        told += [look(seen) for look in _LOOKS_AT_SCRIPT]
        told.append(log_forecast.look(state.logs, seen))
    signs = [sign for sign in told if sign is not None]
    for profile, times in profiles:
        found = (
            depth_gain.look(state.depth, profile),
            headroom_low.look(state.headroom, profile),
            level_forecast.look(state.levels, profile),
            time_gain.look(state.time, times),
        )
        signs += [sign for sign in found if sign is not None]
    for sign in sorted(signs, key=lambda each: each.last_step):
        _note(state, sign)
    return state


def find(records: Sequence[RankRecord]) -> Findings:
    """Return what a whole record shows, all ranks together: each symptom where it is worst."""
    return find_by_rank(records)[0]


def find_by_rank(
    records: Sequence[RankRecord],
) -> tuple[Findings, dict[int, tuple[Symptom, ...]]]:
    """Return the same, and the symptoms of each rank as `symptoms_of` does, by one scan."""
    states = {record.rank: _seen(record) for record in records}
    by_rank = {
        rank: tuple(sorted(state.symptoms.values(), key=_order)) for rank, state in states.items()
    }
    steps = max((state.steps for state in states.values()), default=0)
    return together(by_rank, steps), by_rank


def together(by_rank: Mapping[int, Sequence[Symptom]], steps: int) -> Findings:
    """Return the symptoms of all ranks of a run, each where it is worst."""
    symptoms: dict[str, Symptom] = {}
    for rank, shown in by_rank.items():
        for symptom in shown:
            if len(by_rank) > 1:
                symptom = replace(symptom, evidence={**symptom.evidence, "rank": rank})
            known = symptoms.get(symptom.symptom)
            if known is None or _order(symptom) < _order(known):
                symptoms[symptom.symptom] = symptom
    return _findings(symptoms.values(), steps)


def symptoms_of(record: RankRecord) -> tuple[Symptom, ...]:
    """Return what the record of one rank shows, the worst first, then the earliest."""
    return tuple(sorted(_seen(record).symptoms.values(), key=_order))


def _seen(record: RankRecord) -> ScanState:
    state = start(record.tensors)
    state.updates.learn(record.observations)
    update(state, record.block, record.weights)
    graphs = sampled_graphs(record.profiles, record.times)
    return see(state, graphs, record.faults, record.observations)


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
        signs += signs_of_piece(state.pieces, piece, state.tensors)
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
    one = slice(sample, sample + 1)
    part = WeightBlock(weights.step[one], weights.weight_norms[one], weights.present[one])
    signs = weight_growth.look(state.weights, part, state.tensors)
    pushed = weights_pushed.look(state.updates, part)
    signs += [] if pushed is None else [pushed]
    for group in state.groups.values():
        if group.level.elasticity:
            sign = gradient_norm.weigh(group.level, state.weights.latest)
            signs += [] if sign is None else [sign]
    return signs


def _signs_of_rows(state: ScanState, block: StepBlock, start: int, stop: int) -> list[Sign]:
    if start >= stop:
        return []
    rows = slice(start, stop)
    weights_pushed.take(state.updates, block, rows, state.tensors)
    # Without a clip the coefficient is NaN. A treatment that left the step out moves nothing.
    clipped, left_out = block.clip_coefficient[rows], block.skipped[rows] < 0
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = np.log2(block.grad_norm[rows])
        rate = block.lr[rows] * np.where(np.isnan(clipped), 1.0, clipped) * ~left_out
        ratios = bits + np.log2(rate) - state.weights.latest
    elements = _elements(state, block, rows)
    falls = largest_falls(state.updates.optimizers, rate, block.grad_norm[rows], elements)
    falls = np.full(stop - start, np.inf) if falls is None else np.nan_to_num(falls, nan=np.inf)
    dtype = state.narrowest
    signs = _signs_of_adam(state, block, rows, elements)
    for step, bit, loss, lr, ratio, fall, key in zip(
        block.step[rows].tolist(),
        bits.tolist(),
        np.where(block.has_loss, block.loss, np.nan)[rows].tolist(),
        block.lr[rows].tolist(),
        ratios.tolist(),
        falls.tolist(),
        _keys(block.present[rows]),
        strict=True,
    ):
        group = state.groups.get(key)
        if group is None:
            group = state.groups[key] = Group()
        signs += signs_of_row(group, step, bit, loss, lr, ratio, fall, dtype)
    return signs


def _elements(state: ScanState, block: StepBlock, rows: slice) -> NDArray[np.float64]:
    """Return how many elements each step has gradients for."""
    present = block.present[rows]
    sizes = np.array([info.numel for info in state.tensors[: present.shape[1]]], np.float64)
    return present[:, : len(sizes)] @ sizes


def _signs_of_adam(
    state: ScanState, block: StepBlock, rows: slice, elements: NDArray[np.float64]
) -> list[Sign]:
    """Return the signs of the steps whose update rewrites the weights."""
    lr = block.lr[rows]
    usual = usual_updates(state.updates.optimizers, lr, elements)
    latest = state.weights.latest
    if usual is None or not math.isfinite(latest):
        return []
    inputs = update_spike.inputs_of(state.tensors)
    ratios = (usual / 2.0**latest).tolist()
    told = zip(ratios, lr.tolist(), block.step[rows].tolist(), strict=True)
    signs = (update_spike.look_at_adam(*each, inputs=inputs) for each in told)
    return [sign for sign in signs if sign is not None]


def _keys(present: NDArray[np.bool_]) -> list[bytes]:
    """Return, for every row, which tensors had a gradient, however many there are by now."""
    if present.all():
        return [np.packbits(present[0]).tobytes().rstrip(b"\0")] * len(present)
    return [row.tobytes().rstrip(b"\0") for row in np.packbits(present, axis=1)]


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
        # What was but a note is an alarm from now on, not from then.
        step=sign.step if worse and known.severity == "info" else known.step,
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
