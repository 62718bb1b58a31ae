from __future__ import annotations

import contextlib
import json
import math
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import gainstage
from gainstage import RunFolderError
from gainstage.attach import session as sessions
from gainstage.blackbox.replay import replay
from gainstage.blackbox.rescue import rescue
from gainstage.blackbox.write import FaultTensors
from gainstage.channel.config import size_bytes
from gainstage.facts.fault import Fault, FaultEvidence, Share, Site
from gainstage.store.blackbox import box_folders, find_box

OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "fused": True}),
    ("Adam", {"amsgrad": True}),
    ("AdamW", {"fused": True}),
    ("Adam", {"lr": torch.tensor(0.01)}),
    ("Adafactor", {}),
    ("Adagrad", {}),
    ("Adadelta", {}),
    ("Adamax", {}),
    ("ASGD", {}),
    ("NAdam", {}),
    ("RAdam", {}),
    ("RMSprop", {"momentum": 0.9, "centered": True}),
    ("Rprop", {}),
    ("LBFGS", {"max_iter": 3}),
]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 2)
    )


def make(name: str, options: Mapping[str, Any], model: nn.Module) -> torch.optim.Optimizer:
    return getattr(torch.optim, name)(model.parameters(), **({"lr": 0.01} | dict(options)))


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, steps: Iterator[int], bad: int
) -> None:
    for step in steps:
        x = torch.randn(16, 4)
        if step == bad:
            x[3, 2] = math.nan

        def closure(x: Tensor = x) -> Tensor:
            optimizer.zero_grad()
            loss = model(x).pow(2).mean()
            loss.backward()
            return loss

        if isinstance(optimizer, torch.optim.LBFGS):
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()


def die(folder: Path, name: str = "AdamW", options: Mapping[str, Any] | None = None) -> None:
    """Train until a NaN has destroyed everything."""
    with gainstage.watch(out=folder):
        model = network()
        optimizer = make(name, options or {}, model)
        train(model, optimizer, iter(range(10)), bad=6)
    # Rprop looks at signs alone, and a NaN has none.
    assert name == "Rprop" or any(bool(p.isnan().any()) for p in model.parameters())


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_what_is_rescued_trains_on_as_if_the_bad_batch_had_not_been(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    die(tmp_path / "run", name, options)
    made = rescue(tmp_path / "run")
    assert made.step == 6
    saved = torch.load(made.path, weights_only=True)
    model = network()
    optimizer = make(name, options, model)
    exec("\n".join(made.lines), {"torch": torch, "model": model, "optimizer": optimizer})
    torch.set_rng_state(saved["rng"]["torch"])
    train(model, optimizer, iter(range(7, 20)), bad=-1)

    control = network()
    other = make(name, options, control)
    train(control, other, iter(range(6)), bad=-1)
    x = torch.randn(16, 4)  # the bad batch, as far as random numbers go
    nn.Dropout(0.1)(x.new_ones(16, 8))
    train(control, other, iter(range(7, 20)), bad=-1)
    weights, expected = dict(model.named_parameters()), dict(control.named_parameters())
    assert same(weights, expected)
    # The forward pass had poisoned these before the gradient told, and they begin anew.
    assert [note for note in made.notes if "running statistics" in note]
    assert bool(saved["model"]["1.running_mean"].eq(0).all())


def test_all_generators_draw_what_they_would_have_drawn(tmp_path: Path) -> None:
    with gainstage.watch(out=tmp_path / "run"):
        weight = nn.Parameter(torch.ones(3))
        optimizer = torch.optim.SGD([weight], lr=0.1)
        random.seed(1), np.random.seed(2), torch.manual_seed(3)
        random.gauss(0, 1)
        (weight * math.nan).sum().backward()
        optimizer.step()
    drawn = random.gauss(0, 1), random.random(), np.random.normal(), torch.rand(4)
    rng = torch.load(rescue(tmp_path / "run").path, weights_only=True)["rng"]
    random.setstate(rng["python"])
    np.random.set_state(rng["numpy"])
    torch.set_rng_state(rng["torch"])
    again = random.gauss(0, 1), random.random(), np.random.normal(), torch.rand(4)
    assert again[:3] == drawn[:3]
    assert torch.equal(again[3], drawn[3])


class Odd(nn.Module):
    """Tied, non-contiguous, half, complex and frozen parameters, buffers, and a sparse one."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embedding.weight
        self.turned = nn.Parameter(torch.randn(3, 4).t())
        self.narrow = nn.Parameter(torch.randn(4).bfloat16())
        self.wave = nn.Parameter(torch.randn(4, dtype=torch.complex128))
        self.frozen = nn.Parameter(torch.randn(2), requires_grad=False)
        flat = torch.randn(6)
        self.left, self.right = nn.Parameter(flat[:3]), nn.Parameter(flat[3:])
        self.register_buffer("mask", torch.full((2, 2), -math.inf))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(self.embedding(x)).sum() + self.turned.sum() + self.narrow.float().sum()
        return y + self.wave.abs().sum() + (self.left * self.right).sum()


def test_odd_parameters_come_back_bit_for_bit(tmp_path: Path) -> None:
    with gainstage.watch(out=tmp_path / "run"):
        model = Odd()
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        (model(torch.tensor([1, 2])) * math.inf).backward()
        optimizer.step()
    made = rescue(tmp_path / "run")
    saved = torch.load(made.path, weights_only=True)["model"]
    assert list(saved) == list(before)
    assert all(torch.equal(saved[name], before[name]) for name in before)
    assert all(saved[name].dtype == before[name].dtype for name in before)
    assert Odd().load_state_dict(saved).missing_keys == []
    files = {path.suffix for path in box_folders(tmp_path / "run")[0][2].iterdir()}
    assert files == {".safetensors", ".json"}


def test_a_sparse_parameter_is_refused_in_words(tmp_path: Path) -> None:
    with gainstage.watch(out=tmp_path / "run"):
        sparse = nn.Parameter(torch.eye(3).to_sparse())
        dense = nn.Parameter(torch.ones(2))
        optimizer = torch.optim.SGD([dense, sparse], lr=0.1)
        (dense * math.nan).sum().backward()
        optimizer.step()
    notes = rescue(tmp_path / "run").notes
    assert notes == ["sparse is not in it: its layout is sparse_coo, not dense"]


def test_two_networks_and_loose_tensors_are_told_apart(tmp_path: Path) -> None:
    with gainstage.watch(out=tmp_path / "run"):
        generator, critic = nn.Linear(2, 2), nn.Linear(2, 1)
        scales = {"a": torch.ones(2, requires_grad=True)}
        opt_g = torch.optim.Adam([*generator.parameters(), scales["a"]])
        opt_c = torch.optim.Adam(critic.parameters())
        for step in range(4):
            for optimizer in (opt_c, opt_g):
                loss = (critic(generator(torch.randn(8, 2))) * scales["a"].sum()).mean()
                optimizer.zero_grad()
                (loss * (math.nan if step == 3 else 1.0)).backward()
                optimizer.step()
            if step == 2:
                kept = [p.detach().clone() for p in (generator.weight, critic.weight, scales["a"])]
    made = rescue(tmp_path / "run")
    assert made.step == 6
    fresh = {"generator": nn.Linear(2, 2), "critic": nn.Linear(2, 1)}
    new: dict[str, Any] = {"scales": {"a": torch.zeros(2)}, **fresh}
    new["opt_g"] = torch.optim.Adam([*fresh["generator"].parameters(), new["scales"]["a"]])
    new["opt_c"] = torch.optim.Adam(fresh["critic"].parameters())
    exec("\n".join(made.lines), {"torch": torch, **new})
    back = [fresh["generator"].weight, fresh["critic"].weight, new["scales"]["a"]]
    assert all(map(torch.equal, back, kept))
    assert new["opt_c"].state_dict()["state"][0]["step"] == 3


def test_a_script_that_steps_by_hand_gets_a_box_too(tmp_path: Path) -> None:
    with gainstage.watch(out=tmp_path / "run"):
        weight = torch.ones(2, requires_grad=True)
        for step in range(3):
            (weight * (math.inf if step == 2 else 1.0)).sum().backward()
            with torch.no_grad():
                weight -= 0.25 * weight.grad  # type: ignore[operator]
                weight.grad = None
    made = rescue(tmp_path / "run")
    assert torch.load(made.path, weights_only=True)["model"]["weight"].tolist() == [0.5, 0.5]
    assert made.lines[1:] == ["weight.data.copy_(saved['model']['weight'])"]


@pytest.mark.parametrize("fused", [False, True])
def test_steps_that_a_loss_scaler_leaves_out_are_no_failure(fused: bool, tmp_path: Path) -> None:
    with gainstage.watch(out=tmp_path / "run"):
        model = network()
        optimizer = torch.optim.AdamW(model.parameters(), fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
        for step in range(8):
            optimizer.zero_grad()
            scaler.scale(model(torch.randn(8, 4)).pow(2).mean() * 64).backward()
            if step % 2:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
        assert not box_folders(tmp_path / "run")
        scaler.scale(model(torch.randn(8, 4)).pow(2).mean()).backward()
        scaler.unscale_(optimizer)
        model[0].bias.grad[0] = math.nan  # type: ignore[index]
        optimizer.step()
    saved = torch.load(rescue(tmp_path / "run").path, weights_only=True)
    assert saved["scaler"]["scale"] == scaler.get_scale()


def test_a_box_is_made_where_the_script_clips_or_a_treatment_reads(tmp_path: Path) -> None:
    for treat in ("", "lower-lr:factor=0.5"):
        folder = tmp_path / f"run{treat[:1]}"
        with gainstage.watch(out=folder, treat=treat or ()):
            model = network()
            optimizer = make("AdamW", {}, model)
            (model(torch.randn(8, 4)).sum() * math.inf).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        saved = torch.load(rescue(folder).path, weights_only=True)
        assert saved["optimizer"][0]["param_groups"][0]["lr"] == 0.01
        assert find_box(folder).info["nonfinite"][0].endswith("0.weight")


def test_a_line_search_that_gets_lost_is_rescued_before_its_weights_are(tmp_path: Path) -> None:
    with gainstage.watch(out=tmp_path / "run"):
        weight = nn.Parameter(torch.tensor([3.0]))
        optimizer = torch.optim.LBFGS([weight], lr=100.0, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = torch.cosh(weight).sum()
            loss.backward()
            seen.append(loss.item())
            return loss

        seen: list[float] = []
        optimizer.step(closure)
    assert seen[1] == math.inf
    assert weight.isnan()
    made = rescue(tmp_path / "run")
    assert made.notes[-1].startswith("made within a step, at evaluation 2 of its closure")


def noted(step: int, x: Tensor) -> tuple[Fault, FaultTensors]:
    site = Site("log", module="", file="/tmp/train.py", line=12)
    known = FaultEvidence(reason="outside-domain", domain="log of 0", share=Share(1, 3))
    fault = Fault(step, "domain", "forward", site, known, samples=(1,))
    return fault, FaultTensors("log", {"self": x}, {"base": (2, math.inf)}, {"batch.x": x})


def reexecute(op: str, inputs: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Tensor:
    assert settings == {"base": (2, math.inf)}
    return getattr(torch, op)(inputs["self"])


@pytest.mark.parametrize("steps_after", [True, False])
def test_the_culprit_and_the_batch_are_kept_and_computed_again(
    steps_after: bool, tmp_path: Path
) -> None:
    with gainstage.watch(out=tmp_path / "run"):
        recorder = sessions.active.recorder  # type: ignore[union-attr]
        weight = nn.Parameter(torch.tensor([1.0, 0.0, 2.0]))
        optimizer = torch.optim.SGD([weight], lr=0.1)
        loss = (weight * 0).sum()
        loss.backward()
        recorder.judge.protection.note_fault(*noted(0, torch.ones(3)))  # type: ignore[union-attr]
        optimizer.step()  # it did no harm
        optimizer.zero_grad()
        torch.log(weight).sum().backward()
        recorder.judge.protection.note_fault(*noted(1, weight))  # type: ignore[union-attr]
        assert not box_folders(tmp_path / "run")
        if steps_after:
            optimizer.step()
    box = find_box(tmp_path / "run")
    assert box.info["fault"]["site"]["line"] == 12
    assert box.file("batch").exists()
    replayed = replay(tmp_path / "run", reexecute=reexecute)
    assert replayed.is_reproduced
    text = "\n".join(replayed.lines)
    assert "step 1   log   /tmp/train.py:12" in text
    assert "[1] = -inf   from self[1] = 0" in text
    assert rescue(tmp_path / "run").step == 1
    fine = replay(tmp_path / "run", reexecute=lambda op, inputs, settings: inputs["self"])
    assert not fine.is_reproduced
    with pytest.raises(RunFolderError, match="cannot be computed again"):
        replay(tmp_path / "run", reexecute=lambda op, inputs, settings: inputs["other"])


@pytest.mark.parametrize(
    ("limit", "left_out"),
    [
        (2200, []),
        (2000, ["saved"]),
        (1800, ["saved", "batch"]),
        (1000, ["saved", "batch", "optimizer"]),
        (100, ["saved", "batch", "optimizer", "model"]),
    ],
)
def test_a_box_over_its_limit_leaves_out_the_least_needed_first(
    limit: int, left_out: list[str], tmp_path: Path
) -> None:
    with gainstage.watch(out=tmp_path / "run", blackbox_limit=f"{limit}B"):
        recorder = sessions.active.recorder  # type: ignore[union-attr]
        layer = nn.Linear(10, 13)  # 572 bytes, 1144 of momenta and 8 of steps
        optimizer = torch.optim.Adam(layer.parameters())
        for step in range(2):
            optimizer.zero_grad()
            (layer(torch.ones(1, 10)).sum() * (math.nan if step else 1.0)).backward()
            x = torch.ones(50)
            recorder.judge.protection.note_fault(*noted(step, x))  # type: ignore[union-attr]
            optimizer.step()
    box = find_box(tmp_path / "run")
    assert [entry["part"] for entry in box.info["left_out"]] == left_out
    assert sum(path.stat().st_size for path in box.path.glob("*.safetensors")) < limit + 4000
    if "model" in left_out:
        with pytest.raises(RunFolderError, match=r"no weights: the box would take .*limit is 100"):
            rescue(tmp_path / "run")
        return
    saved = torch.load(rescue(tmp_path / "run").path, weights_only=True)
    assert len(saved["optimizer"]) == ("optimizer" not in left_out)
    if "saved" in left_out:
        with pytest.raises(RunFolderError, match="inputs are not in the black box: the box would"):
            replay(tmp_path / "run", reexecute=reexecute)


def test_only_the_first_failure_gets_a_box_and_none_where_none_is_wanted(tmp_path: Path) -> None:
    die(tmp_path / "run")
    assert [(step, rank) for step, rank, _ in box_folders(tmp_path / "run")] == [(6, 0)]
    assert not list((tmp_path / "run" / "blackbox").glob(".*"))
    with gainstage.watch(out=tmp_path / "none", blackbox_limit="0"):
        train(model := network(), make("AdamW", {}, model), iter(range(8)), bad=6)
    assert not (tmp_path / "none" / "blackbox").exists()


def test_a_box_that_cannot_be_written_costs_one_warning(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with gainstage.watch(out=tmp_path / "run") as watch:
        model = network()
        optimizer = make("AdamW", {}, model)
        train(model, optimizer, iter(range(2)), bad=-1)
        (tmp_path / "run" / "blackbox").write_text("in the way")
        train(model, optimizer, iter(range(8)), bad=3)
    assert capfd.readouterr().err.count("no black box of step 5: ") == 1
    assert len(watch.run.block()) == 10


def test_a_full_disk_costs_one_warning_and_leaves_no_half_of_a_box(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with gainstage.watch(out=tmp_path / "run") as watch:
        layer = nn.Linear(1000, 500)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        (layer(torch.ones(1, 1000)).sum() * math.nan).backward()
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
        try:
            optimizer.step()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert capfd.readouterr().err.count("no black box of step 0: ") == 1
    assert list((tmp_path / "run" / "blackbox").iterdir()) == []
    assert len(watch.run.block()) == 1


def test_weights_that_were_lost_before_are_not_called_rescued(tmp_path: Path) -> None:
    with gainstage.watch(out=tmp_path / "run"):
        model = network()
        optimizer = make("AdamW", {}, model)
        train(model, optimizer, iter(range(3)), bad=-1)
        model[0].weight.data[0, 0] = math.nan  # type: ignore[index]
        train(model, optimizer, iter(range(3)), bad=-1)
    with pytest.raises(RunFolderError, match=r"not finite any more before step 3: 0\.weight"):
        rescue(tmp_path / "run")


def test_a_run_without_a_failure_has_nothing_to_rescue(tmp_path: Path) -> None:
    with gainstage.watch(out=tmp_path / "run"):
        train(model := network(), make("AdamW", {}, model), iter(range(3)), bad=-1)
    with pytest.raises(RunFolderError, match="has no black box; nothing failed"):
        rescue(tmp_path / "run")
    with pytest.raises(RunFolderError, match="is no folder of a run"):
        rescue(tmp_path / "elsewhere")


@pytest.fixture(scope="module")
def died(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("died") / "run"
    die(folder)
    with pytest.raises(RunFolderError, match="has no black box of rank 3; there is one of rank 0"):
        rescue(folder, rank=3)
    return folder


@given(
    st.sampled_from(["blackbox.json", "model.safetensors", "optimizer.safetensors"]),
    st.floats(0, 1, exclude_max=True),
    st.binary(max_size=4),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_a_damaged_box_is_one_clear_error_and_never_another(
    died: Path, name: str, share: float, garbage: bytes
) -> None:
    path = find_box(died).path / name
    whole = path.read_bytes()
    cut = int(share * len(whole))
    assume(whole[:cut] + garbage != whole)
    try:
        path.write_bytes(whole[:cut] + garbage)
        with pytest.raises(RunFolderError):
            rescue(died)
        path.write_bytes(whole[:cut] + garbage + whole[cut + len(garbage) :])
        with contextlib.suppress(RunFolderError):  # a flipped bit may as well be a weight's
            rescue(died)
    finally:
        path.write_bytes(whole)


def test_a_box_cannot_put_code_into_what_people_will_paste(died: Path) -> None:
    path = find_box(died).path / "blackbox.json"
    whole = path.read_text()
    info = json.loads(whole)
    info["optimizers"][0]["label"] = "__import__('os').system('x');optimizer"
    try:
        path.write_text(json.dumps(info))
        assert not any("import" in line for line in rescue(died).lines)
    finally:
        path.write_text(whole)


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("1GB", 10**9), ("500 MB", 5 * 10**8), ("2.5k", 2500), ("0", 0), ("12b", 12)],
)
def test_a_size_is_read(text: str, bytes_: int) -> None:
    assert size_bytes(text) == bytes_


@pytest.mark.parametrize("text", ["", "much", "-1GB", "1XB", "nan"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(gainstage.ConfigError, match="--blackbox-limit must be a size such as 1GB"):
        size_bytes(text)
