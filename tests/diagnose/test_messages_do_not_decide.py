"""Sentences are for people: whatever they say, the diagnosis is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

import gainstage
from messages import NONSENSE, assert_messages_do_not_decide
from script_runs import run_script

NAMED = """\
import torch


class Base(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x * x * x).abs()

    @staticmethod
    def backward(ctx, grad):
        return grad


{name} = type("{name}", (Base,), {{}})
torch.manual_seed(0)
layer = torch.nn.Linear(4, 4)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
for step in range(40):
    x = torch.randn(8, 4) * (1 if step < 30 else 1e14)
    loss = {name}.apply(layer(x)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def record(script: str, folder: Path) -> Path:
    path = folder / "train.py"
    path.parent.mkdir()
    path.write_text(script)
    with gainstage.watch(out=folder / "run"):
        run_script(path)
    return folder / "run"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(NAMED.format(name="Scale"), tmp_path_factory.mktemp("run") / "plain")


@pytest.mark.parametrize("name", ["float16_safe_scale", "hidden_half"])
def test_the_name_of_a_function_does_not_change_its_diagnosis(
    name: str, plain: Path, tmp_path: Path
) -> None:
    named = gainstage.load(record(NAMED.format(name=name), tmp_path / "named")).findings.diagnosis
    scale = gainstage.load(plain).findings.diagnosis
    assert named is not None
    assert scale is not None
    assert (named.cause, named.confidence) == (scale.cause, scale.confidence)
    assert [e.evidence for e in named.evidence] == [e.evidence for e in scale.evidence]


def test_nonsense_in_every_sentence_of_a_run_changes_nothing(plain: Path) -> None:
    assert_messages_do_not_decide(plain)
    assert NONSENSE in (plain.with_name("run-nonsense") / "faults.jsonl").read_text()
