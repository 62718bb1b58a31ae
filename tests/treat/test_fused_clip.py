"""Clipping that a fused optimizer does as it reads the gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import gainstage

FUSED = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, fused=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01, fused=True),
}


def train(kind: str, *, clip: bool, bad: int | None = None) -> tuple[nn.Module, list[torch.Tensor]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = FUSED[kind](model.parameters())
    grads: list[torch.Tensor] = []
    for step in range(12):
        optimizer.zero_grad()
        loss = model(torch.randn(32, 8)).square().sum() * (float("inf") if step == bad else 1.0)
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        if step != bad or not clip:
            optimizer.step()
        assert not {"found_inf", "grad_scale"} & vars(optimizer).keys()
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    return model, grads


@pytest.mark.parametrize("kind", FUSED)
def test_a_folded_clip_is_a_clip(kind: str, tmp_path: Path) -> None:
    with gainstage.watch(out=tmp_path / "run", treat="clip-global-norm:max_norm=0.5") as watch:
        folded, seen = train(kind, clip=False)
    plain, expected = train(kind, clip=True)
    for one, other in zip(folded.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    for one, other in zip(seen, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
    block = watch.run.block()
    assert (block.clip_coefficient < 1).any()
    assert (block.max_norm == 0.5).all()


def test_a_bad_step_is_left_out_beside_it(tmp_path: Path) -> None:
    specs = ("clip-global-norm:max_norm=0.5", "skip-nonfinite")
    with gainstage.watch(out=tmp_path / "run", treat=specs):
        folded, _ = train("adamw", clip=False, bad=5)
    plain, _ = train("adamw", clip=True, bad=5)
    for one, other in zip(folded.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
