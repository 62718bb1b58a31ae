"""Weights that something besides the optimizer enlarges; its own updates never are that."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gainstage
from gainstage.detect.update.growth_beyond_updates import GrowthBeyondUpdatesEvidence
from gainstage.facts.symptom import Symptom

STEPS = 40
KINDS = {
    "sgd": lambda params, lr: torch.optim.SGD(params, lr),
    "momentum": lambda params, lr: torch.optim.SGD(params, lr, momentum=0.9, nesterov=True),
    "adam": lambda params, lr: torch.optim.Adam(params, lr),
    "adamw": lambda params, lr: torch.optim.AdamW(params, lr, betas=(0.5, 0.9)),
    "nadam": lambda params, lr: torch.optim.NAdam(params, lr),
}


def is_beyond(symptom: Symptom) -> bool:
    return isinstance(symptom.evidence, GrowthBeyondUpdatesEvidence)


def train(
    folder: Path, optimizer: str = "sgd", *, lr: float = 0.01, push: float = 1.0, once: bool = False
) -> list[Symptom]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
    sgd = KINDS[optimizer](model.parameters(), lr)
    x, y = torch.randn(32, 4), torch.randn(32, 1)
    with gainstage.watch(model, sgd, out=folder, budget=1.0) as watch:
        for step in range(STEPS):
            sgd.zero_grad()
            (model(x) - y).square().mean().backward()
            sgd.step()
            if step == 20 if once else step >= 10:
                with torch.no_grad():
                    model[0].weight.mul_(push)
    found = [each for each in watch.findings.symptoms if is_beyond(each)]
    assert found == [each for each in gainstage.load(folder).findings.symptoms if is_beyond(each)]
    return found


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_weights_that_the_loop_multiplies_are_told_before_they_do_harm(
    optimizer: str, tmp_path: Path
) -> None:
    (told,) = train(tmp_path / "run", optimizer, push=1.05)
    assert (told.symptom, told.severity) == ("weight-growth", "warning")
    assert 13 <= told.step <= 30
    assert told.evidence.grown > 2 * told.evidence.moved_by_updates


def test_weights_that_are_put_in_once_are_not_told(tmp_path: Path) -> None:
    assert train(tmp_path / "run", push=20.0, once=True) == []


@settings(max_examples=20, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), bits=st.integers(-10, 1), seed=st.integers(0, 99))
def test_no_update_of_an_optimizer_goes_beyond_its_bound(
    kind: str, bits: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    torch.manual_seed(seed)
    weight = nn.Parameter(torch.randn(3))
    optimizer = KINDS[kind]([weight], 2.0**bits)
    pull = torch.randn(3)
    with gainstage.watch(
        optimizer=optimizer, out=tmp_path_factory.mktemp("w") / "run", budget=1.0
    ) as watch:
        for step in range(STEPS):
            optimizer.zero_grad()
            # One way at all steps, but for a calm start: the farthest that momentum goes.
            (weight * pull).sum().mul(1e-3 if step < 10 else 1.0).backward()
            optimizer.step()
    assert not any(is_beyond(each) for each in watch.findings.symptoms)


def test_groups_with_rates_of_their_own_are_not_judged(tmp_path: Path) -> None:
    slow, fast = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    sgd = torch.optim.SGD([{"params": [slow], "lr": 1e-6}, {"params": [fast], "lr": 0.5}])
    with gainstage.watch(optimizer=sgd, out=tmp_path / "run", budget=1.0) as watch:
        for _ in range(STEPS):
            sgd.zero_grad()
            (-(slow.sum() + fast.sum())).backward()
            sgd.step()
    assert not any(is_beyond(each) for each in watch.findings.symptoms)
