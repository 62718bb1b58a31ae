"""The diagnosis: from evidence in words to one ranked cause, with its place and remedies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainstage.detect import scan
from gainstage.diagnose.causes import CAUSE, CAUSES
from gainstage.diagnose.diagnose import diagnose
from gainstage.diagnose.evidence.gather import evidence_of
from gainstage.diagnose.rank import rank
from gainstage.facts.blocks import (
    ProfileBlock,
    StepBlock,
    TimeBlock,
    WeightBlock,
)
from gainstage.facts.fault import Fault, FaultEvidence, Site
from gainstage.facts.observation import (
    ClipAfterStep,
    ClipNothing,
    ClipPartial,
    ClipScaled,
    GradientsNotZeroed,
    LossMade,
    Observation,
    Observed,
    OptimizerMade,
    OptimizerSettings,
    ParametersUnstepped,
)
from gainstage.facts.record import RankRecord
from gainstage.facts.tensor import TensorInfo

TENSORS = (TensorInfo("w", "", (4, 4), "float32"),)
ONE = np.ones((1, 1))
EVIDENCE = sorted({name for kind in CAUSES for name in kind.weighs})
LINE = Site("log", "head", "forward", "train.py", 12)


WITHIN = Site("relu", "body.1", "forward", "train.py", 9)


def steps(norms: list[float], losses: list[float], lr: float = 0.1) -> StepBlock:
    count = len(norms)
    nan = np.full(count, np.nan)
    values = np.array(norms)
    return StepBlock(
        step=np.arange(count),
        time=np.arange(count, dtype=np.float64),
        loss=np.array(losses),
        has_loss=np.ones(count, bool),
        lr=np.full(count, lr),
        grad_norm=values,
        max_norm=nan,
        clip_coefficient=nan,
        skipped=np.zeros(count, np.int64),
        grad_norms=values[:, None].astype(np.float32),
        present=np.ones((count, 1), bool),
    )


def empty(kind: type) -> object:
    return kind(*[np.empty(0, np.float32) for _ in kind.__slots__])


def profile(deltas: list[float]) -> ProfileBlock:
    count = len(deltas)
    whole = np.arange(count, dtype=np.int32)
    bits = np.array(deltas, np.float32)
    zeros = np.zeros(count, np.int32)
    return ProfileBlock(
        step=zeros.astype(np.int64),
        backward=zeros,
        node=whole,
        site=zeros,
        weight=whole,
        forward_bits=np.zeros(count, np.float32),
        forward_max_bits=np.zeros(count, np.float32),
        delta_bits=bits,
        delta_max_bits=bits,
        headroom_bits=128 - bits,
    )


def record(**known: object) -> RankRecord:
    block = known.pop("block", steps([1.0] * 30, [1.0] * 30))
    base = RankRecord(
        tensors=TENSORS,
        block=block,
        weights=WeightBlock(np.zeros(1, np.int64), ONE.astype(np.float32), ONE > 0),
        profiles=empty(ProfileBlock),
        times=empty(TimeBlock),
        sites=(LINE,),
        faults=(),
        observations=(),
    )
    made = replace(base, **known)
    return replace(made, symptoms=scan.symptoms_of(made))


def cause_of(made: RankRecord) -> str:
    found = diagnose([made], scan.find([made]).verdict)
    assert found is not None
    return found.cause


def failing(kind: str, op: str = "log", **evidence: Any) -> RankRecord:
    known = FaultEvidence(**evidence)
    fault = Fault(20, kind, "forward", Site(op, "head", "forward", "train.py", 12), known)
    norms = [1.0] * 20 + [float("nan")] * 10
    return record(block=steps(norms, norms), faults=(fault,))


@pytest.mark.parametrize(
    ("made", "cause"),
    [
        (failing("domain"), "numeric-op"),
        (failing("singular-derivative", "sqrt"), "numeric-op"),
        (failing("domain", "div", divisor="deviation"), "normalization"),
        (failing("input", "addmm"), "bad-data"),
        (failing("input", "addmm", fills="elements"), "bad-data"),
        (failing("input", "addmm", fills="samples"), "bad-data"),
        (failing("input", "addmm", fills="features"), "normalization"),
        (failing("input", "addmm", fills="samples", raw="x"), "normalization"),
        (failing("target", "mse_loss"), "bad-data"),
        (failing("update", "addcdiv", second_moment="exp_avg_sq"), "optimizer-config"),
    ],
)
def test_a_fault_of_the_autopsy_names_its_cause(made: RankRecord, cause: str) -> None:
    assert cause_of(made) == cause


def lower_lr_of(cause: str, made: RankRecord) -> float:
    (found,) = [e for e in CAUSE[cause].remedies(made) if e.remedy == "lower-lr"]
    return found.settings["factor"]


def made_by(name: str, **settings: float) -> tuple[Observation[OptimizerMade], ...]:
    made = OptimizerMade(class_name=name, settings=OptimizerSettings(**settings))
    return (Observation(made, 0),)


@pytest.mark.parametrize(
    ("name", "rate", "factor"),
    [
        ("SGD", 0.1, 0.1),  # the weights' norm is 1, the gradient's 1: a tenth suffices
        ("SGD", 5.0, 0.1),
        ("SGD", 30.0, 0.01),
        ("Adam", 30.0, 2e-4),  # of 9 elements the first update is 3 times the rate
        ("Adam", 0.03, 0.1),
        ("Adagrad", 30.0, 0.1),  # its updates are not known
    ],
)
def test_a_rate_is_lowered_by_as_much_as_its_first_update_is_too_large(
    name: str, rate: float, factor: float
) -> None:
    tensors = (replace(TENSORS[0], shape=(3, 3)),)
    made = record(
        tensors=tensors,
        block=steps([1.0] * 30, [1.0] * 30, lr=rate),
        observations=made_by(name),
    )
    assert lower_lr_of("learning-rate", made) == factor


def test_the_rate_of_a_summed_loss_is_lowered_to_that_of_the_mean() -> None:
    loss = LossMade(node="SumBackward0", summed_elements=64, reduction="sum")
    made = record(observations=(Observation(loss, 0),))
    assert lower_lr_of("loss-reduction", made) == pytest.approx(1 / 64, rel=1e-2)
    assert lower_lr_of("loss-reduction", record()) == 0.01


LEAP = [1.0, 1.2, 0.9, 1.1, 1.0, 0.8, 1.1, 1.0, 1.3, 1.0, 2.0**20, 2.0**30, float("nan")]


@pytest.mark.parametrize(
    ("first", "last", "cause"), [(12.0, 12.0, "bad-data"), (0.0, 12.0, "residual-growth")]
)
def test_a_leap_is_the_datas_or_the_models_by_where_the_levels_leapt(
    first: float, last: float, cause: str
) -> None:
    levels = np.array([[0.0, 0.0, 0.0, 0.0], [first, first, last, last]], np.float32).ravel()
    none = np.full(8, np.nan, np.float32)
    profiles = ProfileBlock(
        step=np.repeat([8, 10], 4),
        backward=np.zeros(8, np.int32),
        node=np.tile(np.arange(4, dtype=np.int32), 2),
        site=np.zeros(8, np.int32),
        weight=np.full(8, -1, np.int32),
        forward_bits=levels,
        forward_max_bits=levels,
        delta_bits=none,
        delta_max_bits=none,
        headroom_bits=none,
    )
    made = record(block=steps(LEAP, LEAP), profiles=profiles, sites=(WITHIN,), stream_adds=8)
    assert cause_of(made) == cause


def test_weights_that_all_grow_alike_are_multiplied_by_something_else_than_gradients() -> None:
    at = np.array([0, 1, 2, 4, 8, 16, 32])
    norms = np.stack([1.5 * 1.08**at, 0.2 * 1.08**at], axis=1).astype(np.float32)
    tensors = (TensorInfo("a", "", (4, 4), "float32"), TensorInfo("b", "", (4, 4), "float32"))
    grads = np.full((40, 2), 0.1, np.float32)
    block = replace(steps([1.0] * 40, [1.0] * 40), grad_norms=grads, present=grads > 0)
    made = record(
        block=block, tensors=tensors, weights=WeightBlock(at, norms, np.ones_like(norms, bool))
    )
    found = diagnose([made], "failed")
    assert found is not None
    assert found.cause == "optimizer-config"


def test_a_clip_of_a_part_is_no_reason_for_a_missing_value() -> None:
    seen = Observation(ClipPartial(parameters=2, stepped=6), 0, "train.py", 9)
    made = failing("input", "addmm", fills="samples")
    assert cause_of(replace(made, observations=(seen,))) == "bad-data"


def test_parameters_in_no_optimizer_are_no_reason_for_a_missing_value() -> None:
    unstepped = ParametersUnstepped(tensors=2, of=4, names=("2.weight",))
    seen = (Observation(unstepped, 8, "train.py", 9),)
    assert cause_of(record(observations=seen)) == "optimizer-config"
    missing = failing("input", "addmm", fills="samples")
    assert cause_of(replace(missing, observations=seen)) == "bad-data"


def test_an_overflow_of_float16_is_another_cause_than_one_of_float32() -> None:
    assert cause_of(failing("overflow", "mul", dtype="float16")) == "dtype-overflow"
    assert cause_of(failing("overflow", "mul", dtype="float32")) == "numeric-op"
    assert cause_of(failing("overflow", "float16_safe_scale", dtype="float32")) == "numeric-op"


def test_growth_through_depth_at_the_first_step_is_initial_scale() -> None:
    grows = [2.0**40 * 1.5**i for i in range(4)] + [float("nan")] * 4
    made = record(
        block=steps(grows, [5.0] * 4 + [float("nan")] * 4),
        profiles=profile([20.0 - 2 * i for i in range(10)]),
    )
    found = diagnose([made], "failed")
    assert found is not None
    assert found.cause == "init-scale"
    assert "2.00 bits a layer" in found.evidence[0].text


def test_gradients_that_fade_with_depth_are_initial_scale_at_the_layer_that_loses_most() -> None:
    deltas = [-20.0, -19.0, -18.0, -9.0, -8.0, -7.0, 0.0]
    fades = replace(profile(deltas), site=np.arange(7, dtype=np.int32))
    places = tuple(replace(LINE, line=10 + i) for i in range(7))
    found = diagnose([record(profiles=fades, sites=places)], "at-risk")
    assert found is not None
    assert found.cause == "init-scale"
    assert "deltas fade 3.33 bits a layer over 7 layers" in found.evidence[0].text
    assert found.site.line == 13  # not the readout, though that loses 7 bits


def test_an_overflow_in_a_recurrence_is_the_recurrences() -> None:
    made = failing("overflow", "mul")
    states = np.arange(12, dtype=np.int32)
    flat = np.zeros(12, np.float32)
    times = TimeBlock(
        step=np.zeros(12, np.int64),
        series=np.zeros(12, np.int32),
        site=np.zeros(12, np.int32),
        layer=np.zeros(12, np.int32),
        reverse=np.zeros(12, np.int32),
        depth=np.zeros(12, np.int32),
        time_step=states,
        hidden_bits=flat,
        delta_bits=flat,
    )
    assert cause_of(made) != "recurrent-gain"
    there = replace(made, times=times, sites=(Site("add", "cell", "forward", "train.py", 12),))
    assert cause_of(there) == "recurrent-gain"
    other = replace(made, times=times, sites=(Site("add", "cell", "forward", "train.py", 99),))
    assert cause_of(other) != "recurrent-gain"


@pytest.mark.parametrize(
    ("observed", "cause"),
    [
        (ClipAfterStep(max_norm=1.0, parameters=3), "clip-misuse"),
        (ClipScaled(max_norm=1.0, parameters=3), "clip-misuse"),
        (ClipNothing(max_norm=1.0, stepped=4), "clip-misuse"),
        (GradientsNotZeroed(tensors=3, of=3), "grad-accumulation"),
    ],
)
def test_what_the_script_does_wrong_is_the_cause(observed: Observed, cause: str) -> None:
    norms = [2.0**i for i in range(40)]
    seen = (Observation(observed, 1, "train.py", 33),)
    made = record(block=steps(norms, [float(n) for n in norms]), observations=seen)
    found = diagnose([made], "failed")
    assert found is not None
    assert found.cause == cause
    if cause == "clip-misuse":
        assert found.site.line == 33
        change = next(each for each in found.remedies if each.remedy == "code-change")
        assert change.why.startswith("line 33: ")


def test_a_healthy_run_has_no_diagnosis_and_neither_has_one_without_evidence() -> None:
    assert diagnose([record()], "healthy") is None
    assert diagnose([], "failed") is None


def test_of_two_ranks_the_one_that_explains_is_told_with_its_number() -> None:
    blind = failing("unknown", "")
    seeing = replace(failing("input", "addmm"), rank=1)
    found = diagnose([blind, seeing], "failed")
    assert found is not None
    assert found.site.rank == 1
    assert found.site.phase == "forward"


@pytest.mark.parametrize("kind", ["domain", "overflow", "input", "update", "singular-derivative"])
def test_evidence_of_a_fault_is_weighed_by_some_cause(kind: str) -> None:
    assert {piece.id for piece in evidence_of(failing(kind))} <= set(EVIDENCE)


def test_evidence_holds_the_numbers_that_its_words_are_made_of() -> None:
    norms = [2.0 ** (i // 2) for i in range(40)]
    found = diagnose([record(block=steps(norms, norms))], "failed")
    assert found is not None
    (grew,) = (each for each in found.evidence if each.evidence == "grew-before")
    assert grew.numbers == {"grew_bits": pytest.approx(14.5)}
    assert grew.text.startswith(f"the gradient norm grew {grew.numbers['grew_bits']:.1f} bits")
    (rose,) = (each for each in found.evidence if each.evidence == "grew-step-by-step")
    assert rose.numbers.keys() == {"first_bits"}


def test_a_loss_that_falls_without_bound_is_not_explained_by_what_it_makes_grow() -> None:
    grows = ["levels-climb-along-a-residual-stream", "depth-grows-later-along-a-residual-stream"]
    seen = [*grows, "grew-before", "loss-falls-without-bound", "loss-is-a-mean"]
    assert rank(seen)[0].cause == "unbounded-objective"
    assert rank(grows)[0].cause == "residual-growth"


@given(st.lists(st.sampled_from(EVIDENCE)))
def test_confidences_are_ordered_and_leave_room_for_an_unknown_cause(names: list[str]) -> None:
    ranked = rank(names)
    confidences = [each.confidence for each in ranked]
    assert confidences == sorted(confidences, reverse=True)
    assert 0 < sum(confidences) < 1
    assert ranked == rank([*names, *names])


@pytest.mark.parametrize(("bits", "confidence"), [(0.0, 1 / 3), (1.0, 1 / 2), (4.0, 16 / 18)])
def test_an_unknown_cause_has_the_odds_of_one_bit(bits: float, confidence: float) -> None:
    only = replace(CAUSES[0], weighs={"seen": bits}, prior_bits=0.0)
    (ranked,) = rank(["seen"], [only])
    assert ranked.confidence == pytest.approx(confidence)


def test_without_evidence_the_prior_decides_and_is_unsure() -> None:
    best = rank([])[0]
    assert best.cause == max(CAUSES, key=lambda kind: kind.prior_bits).id
    assert best.confidence < 0.3
