from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import gainstage
from conftest import finish
from gainstage import ConfigError
from gainstage.blackbox.rescue import rescue
from gainstage.store.blackbox import box_folders
from gainstage.treat.guard.rollback import MOST_IN_A_ROW, MOST_ROLLBACKS, Rollback
from gainstage.treat.guard.snapshot import Statistics
from gainstage.treat.guard.spec import parse_guard

GUARDS = ["off", "skip", "stop", "rollback:to=3"]
OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("SGD", {"momentum": 0.9, "fused": True}),
    ("Adam", {}),
    ("AdamW", {"fused": True, "amsgrad": True}),
    ("Adagrad", {"fused": True}),
    ("RMSprop", {"momentum": 0.9}),
]
Optimizer = torch.optim.Optimizer


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2))


def bits(model: nn.Module, optimizer: Optimizer) -> list[torch.Tensor]:
    kept = [value for state in optimizer.state.values() for value in state.values()]
    everything = [*model.state_dict().values(), *(v for v in kept if isinstance(v, torch.Tensor))]
    return [each.clone() for each in everything]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


def batches(bad: tuple[int, ...], steps: int = 12) -> list[torch.Tensor]:
    torch.manual_seed(1)
    made = [torch.randn(16, 4) for _ in range(steps)]
    for step in bad:
        made[step][3, 2] = math.nan
    return made


def train(
    model: nn.Module, optimizer: Optimizer, data: list[torch.Tensor]
) -> list[list[torch.Tensor]]:
    """Train, and return the bits from before each step's forward pass and those at the end."""
    history = [bits(model, optimizer)]
    for x in data:
        optimizer.zero_grad()
        model(x).pow(2).mean().backward()
        optimizer.step()
        history.append(bits(model, optimizer))
    return history


def events(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "treatments.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
@pytest.mark.parametrize("bad", [(), (0,), (0, 5, 6)])
def test_a_skipped_step_leaves_no_trace_in_weights_momenta_and_statistics(
    name: str, options: dict[str, Any], bad: tuple[int, ...], tmp_path: Path
) -> None:
    make: Callable[..., Optimizer] = getattr(torch.optim, name)
    data = batches(bad)
    with gainstage.watch(out=tmp_path / "run", guard="skip") as watch:
        model = network()
        guarded = train(model, make(model.parameters(), lr=0.01, **options), data)
    model = network()
    good = [x for step, x in enumerate(data) if step not in bad]
    bare = train(model, make(model.parameters(), lr=0.01, **options), good)
    assert same(guarded[-1], bare[-1])
    for step in bad:
        assert same(guarded[step], guarded[step + 1])
    assert watch.run.block().skipped.tolist() == [-1 if s in bad else 0 for s in range(12)]
    assert [e["step"] for e in events(tmp_path / "run") if e["event"] == "skipped"] == list(bad)
    # The loss was NaN, and no gradient of it reached the optimizer.
    for symptom in watch.findings.symptoms:
        assert symptom.severity != "critical" or symptom.symptom == "loss-nonfinite"


def test_gradients_are_given_back_and_no_flag_is_left(tmp_path: Path) -> None:
    with gainstage.watch(out=tmp_path / "run", guard="skip"):
        model = network()
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        seen: list[tuple[bool, bool]] = []
        step = optimizer.step
        for x in batches((2,), 4):
            optimizer.zero_grad()
            model(x).pow(2).mean().backward()
            step()
            grad = model[0].weight.grad  # type: ignore[index]
            seen.append((bool(grad.isnan().any()), "found_inf" in vars(optimizer)))
    assert seen == [(False, False), (False, False), (True, False), (False, False)]


@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("kind", ["momentum", "adam", "fused", "lbfgs", "scaler", "fused scaler"])
def test_an_idle_guard_changes_no_bit(guard: str, kind: str, tmp_path: Path) -> None:
    def run() -> list[torch.Tensor]:
        model = network()
        model.append(nn.Dropout(0.1))  # type: ignore[operator]
        optimizer: Optimizer
        match kind:
            case "momentum":
                optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
            case "lbfgs":
                optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
            case _:
                fused = "fused" in kind
                optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=fused)
        # The first steps overflow, and the scaler leaves them out.
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, enabled="scaler" in kind)
        for x in batches((), 24):

            def closure(x: torch.Tensor = x) -> torch.Tensor:
                optimizer.zero_grad()
                loss = model(x).pow(2).mean()
                scaler.scale(loss * 64).backward()
                return loss

            if kind == "lbfgs":
                optimizer.step(closure)
                continue
            closure()
            scaler.step(optimizer)
            scaler.update()
        return [*bits(model, optimizer), torch.rand(3)]

    bare = run()
    with gainstage.watch(out=tmp_path / "run", guard=guard) as watch:
        watched = run()
    assert same(bare, watched)
    assert not (tmp_path / "run" / "blackbox").exists()
    skipped = watch.run.block().skipped
    assert (skipped.sum() > 0) == ("scaler" in kind)
    said = [e["event"] for e in events(tmp_path / "run")] if guard != "off" else []
    refused = ["refused"] if kind == "lbfgs" else []
    assert sorted(said) == (sorted(["started", "ended", *refused]) if said else [])


@pytest.mark.parametrize("kind", ["AdamW", "fused AdamW"])
def test_behind_a_loss_scaler_a_guard_keeps_what_the_scaler_lets_through(
    kind: str, tmp_path: Path
) -> None:
    """A gradient that goes bad after `unscale_` is the guard's; an overflow is the scaler's."""
    with gainstage.watch(out=tmp_path / "run", guard="skip") as watch:
        model = network()
        optimizer = torch.optim.AdamW(model.parameters(), fused=kind.startswith("fused"))
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        for step, x in enumerate(batches((2,), 8)):
            before = bits(model, optimizer)
            optimizer.zero_grad()
            scaler.scale(model(x).pow(2).mean()).backward()
            scaler.unscale_(optimizer)
            if step == 5:
                model[0].weight.grad[0, 0] = math.inf  # type: ignore[index]
            scaler.step(optimizer)
            scaler.update()
            if step == 5:
                assert same(before, bits(model, optimizer))
    block = watch.run.block()
    assert block.skipped.tolist() == [0, 0, 1, 0, -1, 0, 0]
    assert [e["step"] for e in events(tmp_path / "run") if e["event"] == "skipped"] == [4]


@pytest.mark.parametrize("to", [1, 2, 4, 6, 10])
def test_a_rollback_restores_the_state_of_good_steps_ago(to: int, tmp_path: Path) -> None:
    bad, spacing = 14, math.ceil(to / 4)
    with gainstage.watch(out=tmp_path / "run", guard=f"rollback:to={to},factor=0.5") as watch:
        model = network()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        history = train(model, optimizer, batches((bad,), 20))
    told = [e for e in events(tmp_path / "run") if e["event"] == "rolled back"]
    assert [e["step"] for e in told] == [bad]
    back = told[0]["good_steps"]
    assert to <= back < to + spacing
    assert same(history[bad + 1], history[bad - back])
    assert optimizer.param_groups[0]["lr"] == 0.01  # the script's own, as it knows it
    assert watch.run.block().skipped[bad] == -1
    # From there on with half the rate: the same as a bare run that begins there.
    model.load_state_dict(dict(zip(model.state_dict(), history[bad - back], strict=False)))
    bare = torch.optim.Adam(model.parameters(), lr=0.005)
    moments = iter(history[bad - back][len(model.state_dict()) :])
    for parameter in model.parameters():
        names = ("step", "exp_avg", "exp_avg_sq")
        bare.state[parameter] = {name: next(moments).clone() for name in names}
    again = train(model, bare, batches((), 20)[bad + 1 :])
    assert same(again[-1], history[-1])


def test_rollbacks_at_one_place_end_with_a_stop_and_a_rescue(tmp_path: Path) -> None:
    model = network()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    with gainstage.watch(out=tmp_path / "run", guard="rollback:to=2") as watch:  # noqa: SIM117
        with pytest.raises(SystemExit, match="3"):
            train(model, sgd, batches(tuple(range(6, 99)), 99))
    told = [e for e in events(tmp_path / "run") if e["event"] not in ("started", "ended")]
    assert [e["event"] for e in told] == ["rolled back"] * MOST_IN_A_ROW + ["stopped"]
    assert "the same place after 3 rollbacks" in told[-1]["message"]
    assert [e.get("lr_factor") for e in told] == [0.5, 0.25, 0.125, None]
    assert len(watch.run.block()) == 6 + MOST_IN_A_ROW + 1
    saved = torch.load(tmp_path / "run" / "rescue.pt", weights_only=True)
    assert saved["step"] == 6


def test_with_no_good_step_to_go_back_to_the_guard_stops(tmp_path: Path) -> None:
    model = network()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    with gainstage.watch(out=tmp_path / "run", guard="rollback"), pytest.raises(SystemExit):
        train(model, sgd, batches((0,)))
    assert "no good step came before it" in events(tmp_path / "run")[-2]["message"]


@given(st.lists(st.integers(0, 30), max_size=60), st.integers(1, 12))
def test_a_chain_of_rollbacks_always_ends_and_never_holds_more_than_five(
    gaps: list[int], to: int
) -> None:
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    statistics, rollback = Statistics(), Rollback(to=to, factor=0.5)
    one = 4  # bytes of a snapshot
    rollbacks = 0
    for gap in [to, *gaps, *[to] * MOST_ROLLBACKS]:
        for _ in range(gap):
            rollback.keep([optimizer], statistics)
            assert rollback.nbytes <= 5 * one
            weight.data += 1
        if rollback.why_not() is not None:
            break
        before = weight.item()
        back = rollback.restore()
        rollbacks += 1
        assert weight.item() == before - back
    assert rollbacks <= MOST_ROLLBACKS
    assert rollback.why_not() is not None


def test_a_stop_comes_before_the_optimizer_and_after_the_black_box(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    with gainstage.watch(out=tmp_path / "run", guard="stop") as watch:  # noqa: SIM117
        with pytest.raises(SystemExit) as stopped:
            train(model, optimizer, batches((7,)))
    assert stopped.value.code == 3
    assert watch.findings.steps == 8
    assert watch.findings.verdict == "failed"
    saved = torch.load(tmp_path / "run" / "rescue.pt", weights_only=True)
    assert same(list(saved["model"].values())[:2], list(model.state_dict().values())[:2])
    # The copies from before the forward pass are in the box: nothing is poisoned.
    assert all(bool(each.isfinite().all()) for each in saved["model"].values())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pray", "no guard 'pray'; there are off, skip, stop, rollback"),
        ("skip:to=3", "skip has no setting 'to'; it has none"),
        ("rollback:to=0", "to must be a whole number above 0, got 0"),
        ("rollback:to=2.5", "to must be a whole number above 0, got 2.5"),
        ("rollback:to=nan", "to must be a whole number"),
        ("rollback:factor=1", "factor must be above 0 and below 1"),
    ],
)
def test_a_guard_that_cannot_be_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_guard(text)


RANKS = """
import sys, torch, torch.distributed as dist, multiprocessing
from pathlib import Path

def train(rank, store):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    torch.manual_seed(0)
    w = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.1)
    for step in range(6):
        optimizer.zero_grad()
        loss = (w * (float("nan") if (rank, step) == (1, 3) else 0.5)).sum()
        loss.backward()
        optimizer.step()
    Path(f"weights.{rank}").write_text(repr(w.tolist()))
    dist.destroy_process_group()

if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=train, args=(rank, sys.argv[1])) for rank in range(2)]
    for each in ranks:
        each.start()
    for each in ranks:
        each.join()
"""


def test_all_ranks_leave_the_same_step_out(tmp_path: Path) -> None:
    (tmp_path / "ranks.py").write_text(RANKS)
    command = [sys.executable, "-m", "gainstage", "run", "--out", "run", "--guard", "skip"]
    ran = finish([*command, "ranks.py", str(tmp_path / "store")], tmp_path)
    assert ran.code == 0, ran.err
    weights = [(tmp_path / f"weights.{rank}").read_text() for rank in range(2)]
    assert weights[0] == weights[1]
    run = gainstage.load(ran.folder)
    assert run.ranks == (0, 1)
    for rank in run.ranks:
        assert run.block(rank).skipped.tolist() == [0, 0, 0, -1, 0, 0]
    # Only one of them had seen the NaN, and kept its state.
    assert [(step, rank) for step, rank, _ in box_folders(ran.folder)] == [(3, 1)]
    assert rescue(ran.folder).path.name == "rescue.rank=1.pt"
