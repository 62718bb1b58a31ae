"""What every treatment promises: its spec, its silence while idle, its state, its way out."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.optim import optimizer as torch_optimizer

import gainstage
from gainstage.treat.kinds import KINDS
from gainstage.treat.make import make
from gainstage.treat.spec import parse
from gainstage.treat.treatment import Treatment

SPECS = [
    "clip-global-norm:max_norm=0.01",
    "clip-global-norm:max_norm=0.01,norm_type=inf",
    "clip-global-norm:max_norm=0.01,per=parameter",
    "clip-global-norm:max_norm=0.01,per=group",
    "clip-value:value=0.001",
    "clip-adaptive:kind=agc,clipping=0.001",
    "clip-adaptive:kind=autoclip",
    "clip-adaptive:kind=zclip,warm_up=2,max_norm=0.01",
    "clip-adaptive:kind=update,rms=0.01",
    "lower-lr:factor=0.5",
    "lower-lr:after=spike,z=0.01",
    "warm-up:steps=100",
    "reinit:kind=he",
    "reinit:kind=lsuv",
    "insert-norm:kind=layer,at=2",
    "insert-norm:kind=batch,at=2",
    "skip-nonfinite",
    "raise-eps:eps=0.001",
    "fp32-module",
    "fp32-module:module=2",
    "scale-loss:factor=64",
]


def test_every_form_of_every_kind_is_here_unless_it_is_another_text_of_the_script() -> None:
    """Only `gainstage run` can start a script with another text (test_code_changes)."""
    specs = [parse(text) for text in SPECS]
    for kind in KINDS.values():
        tried = [spec.kind.form(spec.values()) for spec in specs if spec.kind is kind]
        assert kind.changes_source or all(form in tried for form in kind.forms), kind.id


def build(**options: Any) -> tuple[nn.Sequential, torch.optim.Optimizer]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    groups = [{"params": net[0].parameters()}, {"params": [*net[2:].parameters()]}]
    return net, torch.optim.AdamW(groups, lr=0.01, **options)


def train(
    steps: int, net: nn.Module, optimizer: torch.optim.Optimizer, *, amp: bool = True
) -> list[float]:
    losses: list[float] = []
    for _ in range(steps):
        x = torch.randn(16, 4)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
            loss = net(x).float().pow(2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def everything(net: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    state = [v for each in optimizer.state.values() for v in each.values()]
    return [*net.parameters(), *(v for v in state if isinstance(v, Tensor)), torch.get_rng_state()]


@pytest.mark.parametrize("text", SPECS)
def test_a_spec_gives_the_treatment_that_it_names(text: str) -> None:
    spec = parse(text)
    treatment = make(spec)
    assert treatment.remedy == spec.remedy
    assert treatment.settings() == spec.values()
    assert make(parse(text + (",until=9" if ":" in text else ":until=9"))).settings()["until"] == 9


@pytest.mark.parametrize("text", SPECS)
def test_a_treatment_changes_no_bit_outside_of_its_steps(text: str, tmp_path: Path) -> None:
    bare = build()
    losses = train(5, *bare)
    treated = build()
    comma = "," if ":" in text else ":"
    with gainstage.watch(out=tmp_path / "run", treat=f"{text}{comma}from=5") as watch:
        assert train(5, *treated) == losses
        touched = [each.touched for each in watch._session.treatments]
    assert touched == [0]
    for one, other in zip(everything(*bare), everything(*treated), strict=True):
        assert torch.equal(one, other)


def torch_as_it_is() -> list[object]:
    return [
        torch.autocast.__enter__,
        torch.autograd.backward,
        len(torch_module._global_forward_pre_hooks),
        len(torch_module._global_forward_hooks),
        len(torch_optimizer._global_optimizer_pre_hooks),
        torch.utils._python_dispatch._len_torch_dispatch_stack(),
    ]


@pytest.mark.parametrize("text", SPECS)
def test_a_treatment_acts_between_from_and_until_and_leaves_no_trace(
    text: str, tmp_path: Path
) -> None:
    before = torch_as_it_is()
    net, optimizer = build()
    names = [name for name, _ in net.named_parameters()]
    comma = "," if ":" in text else ":"
    with gainstage.watch(out=tmp_path / "run", treat=f"{text}{comma}from=2,until=18") as watch:
        train(20, net, optimizer)
        (treatment,) = watch._session.treatments
        assert not watch._session.recorder.boundary.has_failed
    if treatment.remedy != "skip-nonfinite" and "spike" not in text:  # nothing to treat here
        assert 1 <= treatment.touched <= 16
    assert watch.findings.steps == 20
    lines = (tmp_path / "run" / "treatments.jsonl").read_text().splitlines()
    started, ended = map(json.loads, lines)
    assert (started["event"], ended["event"]) == ("started", "ended")
    assert (ended["touched"], ended["settings"]["from"]) == (treatment.touched, 2)
    assert torch_as_it_is() == before
    assert [name for name, _ in net.named_parameters()] == names
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in net.modules())
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert [id(p) for p in held] == [id(p) for p in net.parameters()]
    assert [(group["lr"], group["eps"]) for group in optimizer.param_groups] == [(0.01, 1e-8)] * 2


@pytest.mark.parametrize("text", SPECS)
def test_a_treatment_pickles_and_its_state_is_plain(text: str) -> None:
    treatment: Treatment = pickle.loads(pickle.dumps(make(parse(text))))
    assert treatment.settings() == parse(text).values()
    state = json.loads(json.dumps(treatment.state_dict()))
    treatment.load_state_dict(state)
    assert treatment.state_dict() == state


@pytest.mark.parametrize(
    "text",
    [
        "clip-adaptive:kind=zclip,warm_up=3",
        "warm-up:steps=12",
        "lower-lr:after=spike,z=0.5,for=2",
    ],
)
def test_a_run_resumed_with_its_treatments_state_ends_as_the_whole_one(
    text: str, tmp_path: Path
) -> None:
    net, optimizer = build()
    with gainstage.watch(out=tmp_path / "whole", treat=text):
        whole = train(20, net, optimizer)
    net, optimizer = build()
    with gainstage.watch(out=tmp_path / "first", treat=text) as watch:
        parts = train(12, net, optimizer)
        state = json.dumps(watch._session.treatments[0].state_dict())
    with gainstage.watch(out=tmp_path / "second", treat=text) as watch:
        watch._session.treatments[0].load_state_dict(json.loads(state))
        parts += train(8, net, optimizer)
    assert parts == whole


@pytest.mark.parametrize("text", SPECS)
def test_a_scaled_fused_step_is_treated_as_an_unscaled_one(text: str, tmp_path: Path) -> None:
    def run(scale: float | None, folder: str, treat: tuple[str, ...]) -> nn.Module:
        net, optimizer = build(fused=True)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
        with gainstage.watch(out=tmp_path / folder, treat=treat) as watch:
            for _ in range(4):
                loss = net(torch.randn(16, 4)).pow(2).sum()
                optimizer.zero_grad()
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
            assert not watch._session.recorder.boundary.has_failed
        return net

    plain, scaled = run(None, "plain", (text,)), run(2.0**10, "scaled", (text,))
    for one, other in zip(plain.parameters(), scaled.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("text", SPECS)
def test_an_optimizer_with_a_closure_can_be_treated(text: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    x = torch.randn(32, 3)
    y = x.prod(1, keepdim=True)
    optimizer = torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=4)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (net(x) - y).pow(2).mean()
        loss.backward()
        return loss

    with gainstage.watch(out=tmp_path / "run", treat=text) as watch:
        losses = [optimizer.step(closure).item() for _ in range(8)]
        assert not watch._session.recorder.boundary.has_failed
        assert len(watch.run.block()) == 8
    assert losses[-1] < max(losses[:3])
    assert all(torch.isfinite(p).all() for p in net.parameters())


def test_one_that_cannot_act_in_a_closure_says_so(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 1))
    optimizer = torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=2)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = net(torch.ones(4, 3)).pow(2).mean()
        loss.backward()
        return loss

    with gainstage.watch(out=tmp_path / "run", treat="insert-norm:at=0") as watch:
        optimizer.step(closure)
        (treatment,) = watch._session.treatments
    assert treatment.touched == 0
    assert treatment.notes == [
        "insert-norm changes nothing: the optimizer calls a closure, and parameters cannot join it "
        "in the middle of its step"
    ]


def test_several_treatments_act_in_their_order_and_undo_in_reverse(tmp_path: Path) -> None:
    def stepped(*treat: str) -> float:
        weight = nn.Parameter(torch.zeros(2))
        sgd = torch.optim.SGD([weight], lr=1.0)
        folder = tmp_path / "-".join(treat).replace(":", "_")
        with gainstage.watch(out=folder, treat=treat):
            (weight * torch.tensor([30.0, 40.0])).sum().backward()
            sgd.step()
        assert sgd.param_groups[0]["lr"] == 1.0
        return float(weight.detach().norm())

    value, norm = "clip-value:value=1", "clip-global-norm:max_norm=10"
    assert stepped(value, norm) == pytest.approx(2**0.5)
    assert stepped(norm, value) == pytest.approx(2**0.5)
    small = "clip-global-norm:max_norm=1"
    assert stepped(small, value) == pytest.approx(1.0)
    assert stepped(value, small) == pytest.approx(1.0)
    assert stepped("lower-lr:factor=0.5", "lower-lr:factor=0.1", small) == pytest.approx(0.05)
    assert stepped("warm-up:steps=4", "lower-lr:factor=0.5", small) == pytest.approx(0.125)


def test_a_step_that_raises_is_undone_before_the_next(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.zeros(2))
    sgd = torch.optim.SGD([weight], lr=1.0)
    with gainstage.watch(out=tmp_path / "run", treat="lower-lr:factor=0.5"):
        with pytest.raises(ZeroDivisionError):
            sgd.step(lambda: 1 / 0)
        assert sgd.param_groups[0]["lr"] == 0.5
        weight.sum().backward()
        sgd.step()
        assert sgd.param_groups[0]["lr"] == 1.0


@pytest.mark.parametrize("text", ["clip-global-norm:max_norm=1", "skip-nonfinite", "lower-lr"])
def test_a_script_that_steps_by_hand_is_treated_as_far_as_it_can_be(
    text: str, tmp_path: Path
) -> None:
    weight = torch.zeros(2, requires_grad=True)
    with gainstage.watch(out=tmp_path / "run", treat=text) as watch:
        for _ in range(3):
            large = torch.tensor([30.0, float("nan") if text == "skip-nonfinite" else 40.0])
            (weight * large).sum().backward()
            with torch.no_grad():
                assert weight.grad is not None
                weight -= weight.grad
                weight.grad = None
        (treatment,) = watch._session.treatments
    if text == "lower-lr":
        assert treatment.notes == [
            "lower-lr changes nothing: the script has no optimizer, so no learning rate is known"
        ]
    else:
        assert treatment.touched == 3
        assert float(weight.detach().norm()) == pytest.approx(0 if "skip" in text else 3, rel=1e-4)
