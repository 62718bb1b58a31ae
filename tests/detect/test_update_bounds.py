"""A loss that falls without bound is told if its own updates lower it, and not if others do."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gainstage
from gainstage.detect.kind.inputs import StepInput, StepSeries
from gainstage.detect.kind.symptom_kind import Signal
from gainstage.detect.rows import inputs_of
from gainstage.detect.update.update_bounds import largest_falls
from gainstage.detect.update.update_spike import AdamRewriteEvidence, update_adam
from gainstage.facts.observation import Observation, OptimizerMade, OptimizerSettings
from gainstage.facts.tensor import TensorInfo


def made(name: str, **settings: float) -> list[Observation[OptimizerMade]]:
    return [Observation(OptimizerMade(class_name=name, settings=OptimizerSettings(**settings)), 0)]


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(["SGD", "Adam", "AdamW"]),
    seed=st.integers(0, 99),
    rate=st.sampled_from([1e-4, 1e-2]),
)
def test_no_update_lowers_a_linear_loss_by_more(name: str, seed: int, rate: float) -> None:
    torch.manual_seed(seed)
    weight, pull = nn.Parameter(torch.randn(8, dtype=torch.float64)), torch.randn(8).double()
    options = {"momentum": 0.9} if name == "SGD" else {}
    optimizer = getattr(torch.optim, name)([weight], rate, weight_decay=0.0, **options)
    losses, norms = [], []
    for _ in range(30):
        loss = (weight * pull).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        norms.append(float(weight.grad.norm()))
    n = torch.full((30,), 8.0).numpy()
    falls = largest_falls(made(name, **options), rate * n / n, torch.tensor(norms).numpy(), n)
    assert falls is not None
    assert losses[0] - losses[-1] <= falls.sum() * (1 + 1e-6)


def test_of_other_optimizers_it_is_not_known() -> None:
    one = torch.ones(1).numpy()
    assert largest_falls(made("Muon"), one, one, one) is None
    assert largest_falls([*made("SGD"), *made("Adam")], one, one, one) is None
    assert largest_falls([], one, one, one) is None


@pytest.mark.parametrize("carried", [False, True])
def test_a_loss_that_something_else_lowers_has_a_bound(carried: bool, tmp_path: Path) -> None:
    """A score that is multiplied ever more from outside, or one that only training raises."""
    torch.manual_seed(0)
    score = nn.Sequential(
        nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1)
    )
    with gainstage.watch(score, out=tmp_path / "run", budget=1.0) as watch:
        adam = torch.optim.Adam(score.parameters(), lr=1e-6 if carried else 3e-3)
        for step in range(400):
            x = torch.randn(32, 4) + 1
            loss = -(1 + score(x).mean()) * (1.02**step if carried else 1.0)
            adam.zero_grad()
            loss.backward()
            adam.step()
    told = [getattr(each.evidence, "form", None) for each in watch.findings.symptoms]
    assert ("unbounded" in told) is not carried
    again = gainstage.load(tmp_path / "run").findings
    assert [each.symptom for each in again.symptoms] == [
        each.symptom for each in watch.findings.symptoms
    ]


@pytest.mark.parametrize(("rate", "is_told"), [(1e-3, False), (0.3, True)])
def test_updates_of_adam_that_rewrite_the_weights_are_a_sign_that_needs_another(
    rate: float, is_told: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    x, y = torch.randn(32, 64), torch.randint(0, 4, (32,))
    with gainstage.watch(model, out=tmp_path / "run", budget=1.0) as watch:
        adam = torch.optim.AdamW(model.parameters(), lr=rate)
        for _ in range(20):
            loss = nn.functional.cross_entropy(model(x), y)
            adam.zero_grad()
            loss.backward()
            adam.step()
    told = [
        each for each in watch.findings.symptoms if isinstance(each.evidence, AdamRewriteEvidence)
    ]
    assert bool(told) is is_told
    if is_told:
        assert (told[0].symptom, told[0].step) == ("update-spike", 1)
        assert told[0].evidence.update_ratio > 1
        assert told[0].severity == "info" or watch.findings.verdict == "at-risk"


def rewrites(ratio: float, rate: float, tensors: list[TensorInfo]) -> list[Signal]:
    step = StepInput(
        3, 1.0, rate, 0.0, math.nan, ratio, inputs_of(tensors), "float32", StepSeries()
    )
    return list(update_adam(None, step)[1])


def test_weights_that_begin_near_zero_are_rewritten_in_health() -> None:
    few = [TensorInfo("grid", None, (4096, 2), "float32")]
    assert rewrites(100.0, 1e-2, few) == []
    many = [TensorInfo("layer", None, (256, 1024), "float32")]
    assert inputs_of(many) == 1024
    assert rewrites(0.1, 0.1, many) == []
    assert rewrites(math.inf, 0.1, many) == []
    (signal,) = rewrites(0.6, 0.1, many)
    assert (signal.severity, signal.is_strong) == ("info", True)
