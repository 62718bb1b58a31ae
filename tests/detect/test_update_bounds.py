"""A loss that falls without bound is told if its own updates lower it, and not if others do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gainstage
from gainstage.detect.update_bounds import largest_falls
from gainstage.records import Observation


def made(name: str, **settings: object) -> list[Observation]:
    return [Observation("optimizer", 0, None, None, {"class": name, "settings": settings})]


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
    told = [each.evidence.get("form") for each in watch.findings.symptoms]
    assert ("unbounded" in told) is not carried
    again = gainstage.load(tmp_path / "run").findings
    assert [each.symptom for each in again.symptoms] == [
        each.symptom for each in watch.findings.symptoms
    ]
