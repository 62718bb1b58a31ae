"""All detectors over a record, block by block as it grows, or whole."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gainstage.detect.kind.feed import FeedPlan, Seen, feed, plan_of, start_states
from gainstage.detect.kind.inputs import (
    BlockInput,
    Chunk,
    StepInput,
    StepSeries,
    Stretch,
    WeightSample,
)
from gainstage.detect.kind.symptom_kind import SymptomKind
from gainstage.detect.kinds import KINDS
from gainstage.detect.rows import inputs_of, narrowest, rows_of
from gainstage.detect.series.chunks import Chunks, cut, pieces
from gainstage.detect.series.weight_history import WeightHistory
from gainstage.detect.verdict import verdict_of
from gainstage.detect.weigh import Weighed, news, weigh
from gainstage.facts.blocks import ProfileBlock, StepBlock, TimeBlock, WeightBlock
from gainstage.facts.fault import Fault
from gainstage.facts.findings import Findings
from gainstage.facts.observation import Observation, Observed, OptimizerMade, OptimizerStepped
from gainstage.facts.record import RankRecord
from gainstage.facts.symptom import SEVERITIES, Symptom
from gainstage.facts.tensor import TensorInfo


@dataclass(slots=True)
class Group:
    """The steps that had gradients for the same tensors: one optimizer's of several."""

    states: list[Any]
    """Of the detectors that are fed single steps."""
    series: StepSeries = field(default_factory=StepSeries)


@dataclass(slots=True)
class ScanState:
    """What the detectors remember of a run: bounded, however long it is."""

    tensors: tuple[TensorInfo, ...]
    plan: FeedPlan
    states: list[Any]
    """Of the detectors that look at the run as a whole."""
    steps: int = 0
    groups: dict[bytes, Group] = field(default_factory=dict[bytes, Group])
    chunks: Chunks = field(default_factory=Chunks)
    weights: WeightHistory = field(default_factory=WeightHistory)
    optimizers: list[Observation[Observed]] = field(default_factory=list[Observation[Observed]])
    """How they were made, and how they stepped first."""
    weighed: Weighed = field(default_factory=Weighed)


def start(tensors: Sequence[TensorInfo], kinds: Sequence[SymptomKind] = KINDS) -> ScanState:
    """Return the state before the first step."""
    plan = plan_of(kinds)
    return ScanState(tuple(tensors), plan, start_states(plan, per_group=False))


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
    found = feed(state.plan.whole["rows"], state.states, BlockInput(block, state.tensors))
    found += _in_order(state, block, weights)
    for piece in pieces(state.chunks, block):
        found += feed(state.plan.whole["chunks"], state.states, Chunk(piece, state.tensors))
    _weigh(state, found)
    if len(block):
        state.steps = max(state.steps, int(block.step[-1]) + 1)
    return state, news(state.weighed)


def learn(state: ScanState, observations: Iterable[Observation[Observed]]) -> None:
    """Note which optimizers there are, before their steps are judged; again is no matter."""
    for seen in observations:
        is_optimizer = isinstance(seen.evidence, (OptimizerMade, OptimizerStepped))
        if is_optimizer and seen not in state.optimizers:
            state.optimizers.append(seen)


def see(
    state: ScanState,
    profiles: Iterable[tuple[ProfileBlock, TimeBlock]] = (),
    faults: Iterable[Fault] = (),
    observations: Iterable[Observation[Observed]] = (),
) -> ScanState:
    """Take in sampled graphs, what the autopsy found, and what the script was seen to do.

    `update` then tells what is new.
    """
    ports, found = state.plan.whole, list[Seen]()
    observations = tuple(observations)
    learn(state, observations)
    for fault in faults:
        found += feed(ports["faults"], state.states, fault)
    for observation in observations:
        found += feed(ports["observations"], state.states, observation)
    for profile, times in profiles:
        found += feed(ports["profiles"], state.states, profile)
        found += feed(ports["times"], state.states, times)
    _weigh(state, found)
    return state


def findings(state: ScanState) -> Findings:
    """Return what was found so far, the worst first, then the earliest."""
    return _findings(state.weighed.symptoms.values(), state.steps, state.plan.kinds)


def find(records: Sequence[RankRecord], kinds: Sequence[SymptomKind] = KINDS) -> Findings:
    """Return what a whole record shows, all ranks together: each symptom where it is worst."""
    return find_by_rank(records, kinds)[0]


def find_by_rank(
    records: Sequence[RankRecord], kinds: Sequence[SymptomKind] = KINDS
) -> tuple[Findings, dict[int, tuple[Symptom, ...]]]:
    """Return the same, and the symptoms of each rank as `symptoms_of` does, by one scan."""
    states = {record.rank: _scanned(record, kinds) for record in records}
    by_rank = {rank: _sorted(state.weighed.symptoms.values()) for rank, state in states.items()}
    steps = max((state.steps for state in states.values()), default=0)
    return together(by_rank, steps, kinds), by_rank


def together(
    by_rank: Mapping[int, Sequence[Symptom]], steps: int, kinds: Sequence[SymptomKind] = KINDS
) -> Findings:
    """Return the symptoms of all ranks of a run, each where it is worst."""
    symptoms: dict[str, Symptom] = {}
    for rank, shown in by_rank.items():
        for symptom in shown:
            if len(by_rank) > 1:
                symptom = replace(symptom, rank=rank)
            known = symptoms.get(symptom.symptom)
            if known is None or _order(symptom) < _order(known):
                symptoms[symptom.symptom] = symptom
    return _findings(symptoms.values(), steps, kinds)


def symptoms_of(record: RankRecord, kinds: Sequence[SymptomKind] = KINDS) -> tuple[Symptom, ...]:
    """Return what the record of one rank shows, the worst first, then the earliest."""
    return _sorted(_scanned(record, kinds).weighed.symptoms.values())


def sampled_graphs(
    profiles: ProfileBlock, times: TimeBlock
) -> Iterator[tuple[ProfileBlock, TimeBlock]]:
    """Yield the sampled graphs of a record one by one, in the order in which they were taken."""
    if not len(profiles):
        return
    keys = np.stack([profiles.step, profiles.backward.astype(np.int64)], axis=1)
    starts = np.flatnonzero(np.r_[True, (keys[1:] != keys[:-1]).any(axis=1)])
    ends = np.r_[starts[1:], len(profiles)]
    steps: set[int] = set()
    for first, end in zip(starts.tolist(), ends.tolist(), strict=True):
        step = int(profiles.step[first])
        mine = (times.step == step) & (step not in steps)
        steps.add(step)
        yield (
            ProfileBlock(*[getattr(profiles, n)[first:end] for n in ProfileBlock.__slots__]),
            TimeBlock(*[getattr(times, n)[mine] for n in TimeBlock.__slots__]),
        )


def _scanned(record: RankRecord, kinds: Sequence[SymptomKind]) -> ScanState:
    state = start(record.tensors, kinds)
    learn(state, record.observations)
    update(state, record.block, record.weights)
    graphs = sampled_graphs(record.profiles, record.times)
    return see(state, graphs, record.faults, record.observations)


def _in_order(state: ScanState, block: StepBlock, weights: WeightBlock | None) -> list[Seen]:
    """Walk through rows and samples of the weights in the order in which they were taken.

    A sample of step s is taken after row s - 1 and before row s, however the record is cut.
    """
    found: list[Seen] = []
    start = 0
    for sample in range(0 if weights is None else len(weights)):
        assert weights is not None
        stop = int(np.searchsorted(block.step, weights.step[sample]))
        found += _stretch(state, cut(block, start, max(start, stop)))
        start = max(start, stop)
        one = slice(sample, sample + 1)
        found += _sample(
            state,
            WeightBlock(weights.step[one], weights.weight_norms[one], weights.present[one]),
        )
    return found + _stretch(state, cut(block, start, len(block)))


def _sample(state: ScanState, sample: WeightBlock) -> list[Seen]:
    is_kept = state.weights.push(sample)
    given = WeightSample(sample, state.weights, is_kept, state.tensors)
    found = feed(state.plan.whole["weights"], state.states, given)
    for group in state.groups.values():
        found += feed(state.plan.grouped["weights"], group.states, given)
    return found


def _stretch(state: ScanState, block: StepBlock) -> list[Seen]:
    if not len(block):
        return []
    plan, optimizers = state.plan, tuple(state.optimizers)
    found = feed(plan.whole["stretches"], state.states, Stretch(block, state.tensors, optimizers))
    inputs, dtype = inputs_of(state.tensors), narrowest(state.tensors)
    for row in rows_of(block, state.tensors, optimizers, state.weights.latest):
        group = state.groups.get(row.group)
        if group is None:
            group = state.groups[row.group] = Group(start_states(plan, per_group=True))
        series = group.series
        given = StepInput(
            row.step,
            row.loss,
            row.lr,
            row.norm_bits,
            row.update_ratio_bits,
            row.adam_update_ratio,
            inputs,
            dtype,
            series,
        )
        found += feed(plan.grouped["steps"], group.states, given)
        if math.isfinite(row.loss):
            series.push_loss(row.step, row.loss)
            found += feed(plan.grouped["losses"], group.states, given)
            series.loss_range.learn(series.loss)
        series.fallen += row.fall
        if math.isfinite(row.norm_bits):
            series.norm.push(row.step, row.norm_bits)
            found += feed(plan.grouped["norms"], group.states, given)
    return found


def _weigh(state: ScanState, found: Iterable[Seen]) -> None:
    for seen in sorted(found, key=lambda each: each.signal.last_step):
        weigh(state.weighed, seen)


def _findings(symptoms: Iterable[Symptom], steps: int, kinds: Sequence[SymptomKind]) -> Findings:
    ordered = _sorted(symptoms)
    return Findings(steps, verdict_of(ordered, steps - 1, kinds), ordered)


def _sorted(symptoms: Iterable[Symptom]) -> tuple[Symptom, ...]:
    return tuple(sorted(symptoms, key=_order))


def _order(symptom: Symptom) -> tuple[int, int]:
    return -SEVERITIES.index(symptom.severity), symptom.step
