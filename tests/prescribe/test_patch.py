"""Each diff is applied to a copy with `patch`, run bare, and held against the treated run."""

from __future__ import annotations

import io
import re
import subprocess
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

import gainstage
from gainstage.prescribe.patch.diff import Patch, patch_of
from gainstage.treat.spec import parse
from script_runs import run_script

HEAD = """\
import torch
from torch import nn

torch.manual_seed(0)
x, y = torch.randn(64, 8), torch.randn(64, 1)   # the data
"""

PLAIN = (
    HEAD
    + """\
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.5, eps=1e-12)  # too fast


for step in range(40):
    loss = (model(x) - y).square().mean()
    optimizer.zero_grad()
    loss.backward()

    # now move
    optimizer.step()   # here
print(f"final_loss={loss.item()!r}")
"""
)

IN_FUNCTIONS = (
    HEAD
    + """\
class Trainer:
\tdef __init__(self, lr):
\t\tself.net = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1))
\t\tself.optimizer = torch.optim.SGD(
\t\t\tself.net.parameters(),
\t\t\tlr,
\t\t\tmomentum=0.9,
\t\t)

\tdef train(self):
\t\tfor step in range(30):
\t\t\tself.optimizer.zero_grad()
\t\t\tloss = (self.net(x) - y).square().sum()
\t\t\tloss.backward()
\t\t\tself.optimizer.step()
\t\treturn loss.item()


def main():
\trate = 0.002
\tprint(f"final_loss={Trainer(rate).train()!r}")


main()
"""
)

TWO = (
    HEAD
    + """\
one, two = nn.Linear(8, 8), nn.Linear(8, 1)
first = torch.optim.SGD([{"params": one.parameters()}], lr=1e-2)
second = torch.optim.AdamW(two.parameters(), weight_decay=0.1)
for step in range(20):
    loss = (two(one(x)) - y).square().mean()
    first.zero_grad(); second.zero_grad()
    loss.backward()
    first.step()
    second.step()
print(f"final_loss={loss.item()!r}")
"""
)

BAD_BATCH = PLAIN.replace("mean()\n", "mean()\n    if step == 7: loss = loss * float('inf')\n", 1)

LATE_CLIP = PLAIN.replace(
    "    optimizer.step()   # here\n",
    "    optimizer.step()   # here\n    nn.utils.clip_grad_norm_(model.parameters(), 0.1)\n",
)

SCALED = (
    HEAD
    + """\
def main():
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    for step in range(20):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = (model(x) - y).square().mean()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    print(f"final_loss={loss.item()!r}")

main()
"""
)

RATES_BY_HAND = PLAIN.replace(
    "    loss.backward()\n",
    "    loss.backward()\n    for group in optimizer.param_groups:\n"
    "        group['lr'] = 0.5 / (1 + step)\n",
)

BY_NAME = PLAIN.replace(
    "optimizer = torch.optim.Adam(model.parameters(), lr=0.5, eps=1e-12)  # too fast\n",
    "KINDS = {'adam': torch.optim.Adam, 'sgd': torch.optim.SGD}\n\n\n"
    "def optimizer_of(net, kind, rate=0.5):\n"
    "    return KINDS[kind](net.parameters(), lr=rate)\n\n\n"
    "optimizer = optimizer_of(model, 'adam')\n",
)
assert "KINDS" in BY_NAME
ONE_LINE = BY_NAME.replace("rate=0.5):\n    return", "rate=0.5): return")
assert "): return" in ONE_LINE

FACTORS_OF_RATES = PLAIN.replace(
    "for step in range(40):\n",
    "rates = [group['lr'] for group in optimizer.param_groups]\nfor step in range(40):\n"
    "    for group, rate in zip(optimizer.param_groups, rates):\n"
    "        group['lr'] = rate / (1 + step)\n",
)
assert "rate / (1" in FACTORS_OF_RATES


@dataclass
class Shown:
    """What a case gives."""

    patch: Patch
    treated: float
    patched: float | None
    text: str


def final_loss(path: Path) -> float:
    out = io.StringIO()
    with redirect_stdout(out):
        run_script(path)
    return float(re.findall(r"final_loss=(\S+)", out.getvalue())[-1])


def shown(
    script: str, treat: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Shown:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "train.py"
    path.write_text(script)
    with gainstage.watch(out=tmp_path / "bare"):
        final_loss(path)
    with gainstage.watch(out=tmp_path / "treated", treat=treat):
        treated = final_loss(path)
    ended = [e for e in gainstage.load(tmp_path / "treated").treatments if e.event == "ended"]
    patch = patch_of(
        [parse(each) for each in treat],
        gainstage.load(tmp_path / "bare").record(),
        [dict(each.details or {}) for each in ended],
        path,
    )
    if patch.diff is None:
        return Shown(patch, treated, None, script)
    subprocess.run(["patch", "-p1"], input=patch.diff, text=True, check=True, capture_output=True)
    return Shown(patch, treated, final_loss(path), path.read_text())


@pytest.mark.parametrize(
    ("script", "treat"),
    [
        (PLAIN, "lower-lr:factor=0.1"),
        (IN_FUNCTIONS, "lower-lr:factor=0.1"),
        (TWO, "lower-lr:factor=0.3"),
        (RATES_BY_HAND, "lower-lr:factor=0.1"),
        (FACTORS_OF_RATES, "lower-lr:factor=0.1"),
        (BY_NAME, "lower-lr:factor=0.1"),
        (BY_NAME, "raise-eps:eps=0.001"),
        (ONE_LINE, "lower-lr:factor=0.1"),
        (PLAIN, "raise-eps:eps=0.001"),
        (TWO, "raise-eps:eps=0.001"),
        (PLAIN, "warm-up:steps=25"),
        (IN_FUNCTIONS, "warm-up:steps=25"),
        (BAD_BATCH, "skip-nonfinite"),
        (SCALED, "fp32-module"),
    ],
)
def test_the_patched_script_ends_at_the_very_loss_of_the_trial(
    script: str, treat: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = shown(script, (treat,), tmp_path, monkeypatch)
    assert case.patched == case.treated, case.patch


@pytest.mark.parametrize(
    ("script", "treat"),
    [
        (PLAIN, ("clip-global-norm:max_norm=0.1",)),
        (IN_FUNCTIONS, ("clip-global-norm:max_norm=1",)),
        (TWO, ("clip-value:value=0.01",)),
        (BY_NAME, ("clip-global-norm:max_norm=0.1",)),
        (ONE_LINE, ("clip-global-norm:max_norm=0.1",)),
        (LATE_CLIP, ("clip-global-norm:max_norm=0.1",)),
        (SCALED, ("clip-global-norm:max_norm=0.1",)),
        (BAD_BATCH, ("skip-nonfinite", "clip-global-norm:max_norm=1", "lower-lr:factor=0.1")),
    ],
)
def test_a_clip_differs_by_the_rounding_of_its_factor(
    script: str, treat: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # torch divides by the norm + 1e-6, in float32: 1e-5 of each clipped gradient at norm 0.1.
    case = shown(script, treat, tmp_path, monkeypatch)
    # At such a learning rate the training multiplies that, more on some processors than on others.
    assert case.patched == pytest.approx(case.treated, rel=2e-2), case.patch


def test_initial_weights_are_of_the_same_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = PLAIN.replace("nn.Linear(32, 1))", "nn.Linear(32, 1))\nmodel[0].weight.data *= 300")
    script = wide.replace("lr=0.5", "lr=0.01").replace("range(40)", "range(200)")
    case = shown(script, ("reinit:kind=he",), tmp_path, monkeypatch)
    # Other draws and one step more (the trial leaves the first out): the same fit, not its bits.
    assert case.patched is not None
    assert case.patched < 0.5
    assert case.patched == pytest.approx(case.treated, abs=0.2)


MIXED = PLAIN.replace(
    "nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))",
    "nn.Unflatten(1, (2, 4)), nn.Conv1d(2, 8, 3), nn.GELU(), nn.Flatten(), nn.Linear(16, 1))",
)
assert "Conv1d" in MIXED


@pytest.mark.parametrize("kind", ["lsuv", "orthogonal"])
def test_scales_that_were_measured_are_written_down(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = MIXED.replace("lr=0.5", "lr=0.0") + "print(model[1](model[0](x)).square().mean())\n"
    case = shown(script, (f"reinit:kind={kind}",), tmp_path, monkeypatch)
    assert case.patched is not None, case.patch
    assert case.text.count("orthogonal_(weight, ") == 2
    out = io.StringIO()
    with redirect_stdout(out):
        run_script(tmp_path / "train.py")
    level = float(re.findall(r"tensor\(([\d.]+)", out.getvalue())[-1])
    if kind == "lsuv":  # of other draws of the same scale
        assert level == pytest.approx(1.0, rel=0.2)


WITH_NORMS = PLAIN.replace("lr=0.5", "lr=0.01")
IMAGES = MIXED.replace("lr=0.5", "lr=0.01")
RETURNS_A_PAIR = WITH_NORMS.replace(
    "model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))\n",
    "width = 32\n\n\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    "        self.cell, self.out = nn.GRU(8, width), nn.Linear(32, 1)\n\n"
    "    def forward(self, x):\n        return self.out(self.cell(x)[0])\n\n\nmodel = Net()\n",
)
assert "width" in RETURNS_A_PAIR


@pytest.mark.parametrize(
    ("script", "treat", "norm"),
    [
        (WITH_NORMS, "insert-norm:at=0", "LayerNorm(width, "),
        (WITH_NORMS, "insert-norm:kind=rms,at=0", "RMSNorm(width, "),
        (WITH_NORMS, "insert-norm:kind=batch,at=0", "BatchNorm1d(width, "),
        (IMAGES, "insert-norm:at=1", "GroupNorm(1, width, "),
        (IMAGES, "insert-norm:kind=batch,at=1", "BatchNorm1d(width, "),
        (RETURNS_A_PAIR, "insert-norm:at=cell", "LayerNorm(width_, "),
    ],
)
def test_norms_behind_modules_train_as_those_of_the_trial(
    script: str, treat: str, norm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The trial leaves its first step out, so that it ends one step behind.
    longer = script.replace("range(40)", "range(41)")
    with monkeypatch.context() as own:
        own.chdir(tmp_path)
        (tmp_path / "longer").mkdir()
        treated = shown(longer, (treat,), tmp_path / "longer", own).treated
    (tmp_path / "as-it-is").mkdir()
    case = shown(script, (treat,), tmp_path / "as-it-is", monkeypatch)
    assert f"norm_after = torch.nn.{norm}" in case.text, case.patch
    assert case.patched == pytest.approx(treated, rel=1e-3)


def test_an_optimizer_made_in_one_of_two_branches_has_new_weights_in_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = "optimizer = torch.optim.Adam(model.parameters(), lr=0.5, eps=1e-12)  # too fast"
    assert made in PLAIN
    branches = (
        "if len(x) > 1000:\n    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "else:\n    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)"
    )
    case = shown(PLAIN.replace(made, branches), ("reinit:kind=he",), tmp_path, monkeypatch)
    assert case.patched is not None
    assert case.text.count("torch.nn.init.normal_") == 2


def test_an_optimizer_whose_class_has_a_variables_name_has_new_weights_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = shown(BY_NAME, ("reinit:kind=he",), tmp_path, monkeypatch)
    assert case.patched is not None
    before, _, after = case.text.partition("    return KINDS[kind]")
    assert "net.get_parameter(name)" in before
    assert "get_parameter" not in after


def test_names_within_the_model_are_written_where_watching_names_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    kept = torch.optim.SGD(other.parameters(), lr=0.1)
    script = PLAIN.replace("lr=0.5", "lr=0.01")
    case = shown(script, ("reinit:kind=he",), tmp_path, monkeypatch)
    assert kept.param_groups
    names = [each.name for each in gainstage.load(tmp_path / "bare").record().tensors]
    assert any(name.startswith("model.") for name in names)
    assert case.patched is not None


def test_nothing_but_the_lines_of_the_repair_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = shown(BAD_BATCH, ("skip-nonfinite", "lower-lr:factor=0.1"), tmp_path, monkeypatch)
    changed = [line for line in (case.patch.diff or "").splitlines()[2:] if line[0] in "+-"]
    assert changed == [
        "-optimizer = torch.optim.Adam(model.parameters(), lr=0.5, eps=1e-12)  # too fast",
        "+optimizer = torch.optim.Adam(model.parameters(), lr=0.05, eps=1e-12)  # too fast",
        "-    optimizer.step()   # here",
        "+    if all(p.grad is None or p.grad.isfinite().all() for p in model.parameters()):",
        "+        optimizer.step()   # here",
    ]


def test_a_clip_that_came_too_late_is_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = shown(LATE_CLIP, ("clip-global-norm:max_norm=0.1",), tmp_path, monkeypatch)
    assert case.text.count("clip_grad_norm_") == 1
    assert case.text.index("clip_grad_norm_") < case.text.index("optimizer.step()")


def test_a_clip_comes_after_unscaling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = shown(SCALED, ("clip-global-norm:max_norm=0.1",), tmp_path, monkeypatch)
    assert re.search(
        r"scaler\.unscale_\(optimizer\)\n +torch\.nn\.utils\.clip_grad_norm_\(", case.text
    )


@pytest.mark.parametrize(
    ("script", "treat", "said"),
    [
        (PLAIN, "insert-norm", "the trial did not tell which modules"),
        (
            WITH_NORMS.replace("model.parameters()", "list(model.parameters())"),
            "insert-norm:at=0",
            "put a layer norm behind the modules at=0 (no diff: the optimizer is not made of",
        ),
        (IMAGES, "insert-norm:kind=rms,at=1", "torch has no rms norm along axis 1 of 3"),
        (SCALED, "skip-nonfinite", "scaler leaves such steps out already"),
        (TWO, "warm-up:steps=5", "several optimizers"),
        (RATES_BY_HAND, "warm-up:steps=5", "multiply the rate of the script's own schedule"),
        (PLAIN.replace("optimizer.step()", "_ = optimizer.step()"), "skip-nonfinite", "`x.step()`"),
        (
            PLAIN.replace("import torch\n", "import torch as pt\n").replace("torch.", "pt."),
            "clip-global-norm",
            "does not import torch by its name",
        ),
    ],
)
def test_where_no_edit_is_safe_the_instruction_says_what_and_why(
    script: str, treat: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = shown(script, (treat,), tmp_path, monkeypatch)
    assert case.patch.diff is None
    assert said in (case.patch.instruction or "")
