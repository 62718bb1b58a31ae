"""Changes of the code that a diagnosis asks for: each is written, run, and takes the fault away."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import Ran, Runner, finish
from gainstage import ConfigError, load, watch
from gainstage.prescribe.patch.code_changes import ChangedScript, code_changes
from gainstage.prescribe.patch.diff import patch_of
from gainstage.treat.spec import parse

HEAD = "import itertools\nimport torch\nfrom torch import nn\n\ntorch.manual_seed(0)\n"
END = 'print(f"final_loss={loss.item()!r}")\n'

LOOP = """
for step in range(30):
    x = torch.rand(16, 4)
    loss = LOSS
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def loop(loss: str, optimizer: str = "torch.optim.SGD(net.parameters(), lr=0.1)") -> str:
    made = f"net = nn.Linear(4, 1)\noptimizer = {optimizer}\n"
    return HEAD + made + LOOP.replace("LOSS", loss) + END


@dataclass(frozen=True)
class Case:
    script: str
    cause: str
    edit: str
    """What the changed text has in it."""


SQUARES = "(net(x) - x.sum(1, keepdim=True)).pow(2)"
MISS = f"{SQUARES}.mean()"
USED_UP = (
    HEAD
    + """net = nn.Linear(4, 1)
weights = itertools.chain(net.parameters())
optimizer = torch.optim.SGD(weights, lr=3.0)
for step in range(30):
    x = torch.rand(16, 4)
    loss = (net(x) - x.sum(1, keepdim=True)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(weights, 0.1)
    optimizer.step()
"""
    + END
)
CASES = {
    "function": Case(
        loop("-torch.log(torch.relu(net(x)) * (step % 7 > 0)).mean()"),
        "numeric-op",
        "torch.log((torch.relu(net(x)) * (step % 7 > 0)).clamp(min=1e-8)).mean()",
    ),
    "method": Case(
        loop("(net(x) * 0 + 1.5).acos().mean()"),
        "numeric-op",
        "(net(x) * 0 + 1.5).clamp(-1 + 1e-6, 1 - 1e-6).acos()",
    ),
    "divisor": Case(
        loop("torch.tanh(net(x) / torch.relu(x[:, :1] - 0.5)).mean()"),
        "numeric-op",
        "/ (torch.relu(x[:, :1] - 0.5) + 1e-08)",
    ),
    "half": Case(
        loop(f"({SQUARES}.half() * 4e5).float().mean() * 1e-5"),
        "dtype-overflow",
        ".float() * 4e5).float()",
    ),
    "not zeroed": Case(
        loop(MISS).replace("    optimizer.zero_grad()\n", ""),
        "grad-accumulation",
        "    optimizer.step()\n    optimizer.zero_grad()\n",
    ),
    "used-up iterator": Case(USED_UP, "clip-misuse", "weights = list(itertools.chain("),
    "weights multiplied by the loop": Case(
        loop(MISS).replace(
            "    optimizer.step()\n",
            "    optimizer.step()\n    with torch.no_grad():\n"
            "        for weight in net.parameters():\n            weight.mul_(2)\n",
        ),
        "optimizer-config",
        "        for weight in net.parameters():\n            pass\n",
    ),
    "weights written through their data": Case(
        loop(MISS).replace(
            "    optimizer.step()\n", "    optimizer.step()\n    net.weight.data *= 1.3\n"
        ),
        "optimizer-config",
        "    optimizer.step()\nprint",
    ),
    "a head made after the optimizer": Case(
        HEAD
        + """class Trainer:
    def __init__(self, net):
        self.net = net
        self.optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def step(self, x):
        loss = (self.net(x) - x.sum(1, keepdim=True)).pow(2).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
trainer = Trainer(net)
net[1] = nn.Linear(4, 1)
for _ in range(30):
    loss = trainer.step(torch.rand(16, 4))
"""
        + END,
        "optimizer-config",
        'self.optimizer.add_param_group({"params": new})\n        self.optimizer.step()\n',
    ),
    "momentum": Case(
        loop(MISS, "torch.optim.SGD(net.parameters(), lr=0.1, momentum=1.2)"),
        "optimizer-config",
        "momentum=0.9)",
    ),
}


def changes_of(ran: Ran, path: Path, cause: str) -> list[ChangedScript]:
    return code_changes(path, load(ran.folder).record(), {cause: 1.0})


@pytest.mark.parametrize("name", CASES)
def test_a_change_is_written_where_the_fault_is_and_takes_it_away(
    name: str, watched: Runner, tmp_path: Path
) -> None:
    case = CASES[name]
    path = tmp_path / "train.py"
    path.write_text(case.script)
    ran = watched("train.py")
    diagnosis = load(ran.folder).findings.diagnosis
    assert diagnosis is not None
    (change, *_) = changes_of(ran, path, case.cause)
    text = change.content.decode()
    assert case.edit in text
    assert len(text) - len(case.script) < 300
    (tmp_path / "changed.py").write_bytes(change.content)
    command = [sys.executable, "-m", "gainstage", "run", "--out", "again"]
    again = finish([*command, "--treat", "code-change:source=changed.py", "train.py"], tmp_path)
    assert again.code == 0
    final = float(again.out.split("final_loss=")[1])
    assert final == final
    assert abs(final) < 1e9
    seen = load(tmp_path / "again").record()
    assert seen.fault is None
    (journal, *_) = load(tmp_path / "again").treatments
    assert journal.remedy == "code-change"


def test_a_treatment_beside_a_change_that_adds_lines_is_put_where_it_belongs(
    watched: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "train.py"
    path.write_text(
        HEAD
        + """def train(net, optimizer):
    for step in range(30):
        x = torch.rand(16, 4)
        loss = (net(x) - x.sum(1, keepdim=True)).pow(2).mean()
        loss.backward()
        optimizer.step()
    return loss

net = nn.Linear(4, 1)
optimizer = torch.optim.SGD(
    net.parameters(), lr=0.1
)
loss = train(net, optimizer)
"""
        + END
    )
    record = load(watched("train.py").folder).record()
    (change,) = code_changes(path, record, {"grad-accumulation": 1.0})
    (tmp_path / "changed.py").write_bytes(change.content)
    specs = [parse("code-change:source=changed.py"), parse("lower-lr:factor=0.5")]
    patch = patch_of([*specs, parse("clip-global-norm:max_norm=1")], record, [{}] * 3, path)
    assert patch.content is not None, patch.instruction
    text = patch.content.decode()
    assert "lr=0.05" in text
    assert re.search(r"clip_grad_norm_.*\n +optimizer.step\(\)\n +optimizer.zero_grad\(\)\n", text)


@pytest.mark.parametrize(
    "script",
    [
        loop("torch.log(net(x).clamp(min=1)).mean()"),
        loop("net(x).div(2).mean() / 3"),
        loop(f"torch.autocast('cpu', dtype=torch.float16) and {MISS}"),
    ],
)
def test_nothing_is_changed_where_nothing_was_found(
    script: str, watched: Runner, tmp_path: Path
) -> None:
    path = tmp_path / "train.py"
    path.write_text(script)
    ran = watched("train.py")
    for cause in ("numeric-op", "dtype-overflow", "grad-accumulation", "optimizer-config"):
        assert changes_of(ran, path, cause) == []


WHERE = """\
import sys
import beside
import torch
from pathlib import Path
if __name__ == "__main__":
    print(__file__, sys._getframe().f_code.co_filename, sys.argv, sorted(globals()))
    print(Path(sys.path[0]).name, beside.word)
    w = torch.ones(1, requires_grad=True)
    (w * 2).sum().backward()
    print("old")
    raise ValueError("at the end")
"""


def test_a_changed_text_runs_as_if_it_stood_in_the_scripts_file(
    bare: Runner, tmp_path: Path
) -> None:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "beside.py").write_text("word = 'found'\n")
    (folder / "train.py").write_text(WHERE)
    (tmp_path / "changed.py").write_text(WHERE.replace('"old"', '"new"'))
    command = [sys.executable, "-m", "gainstage", "run", "--out", "run"]
    treat = ["--treat", "code-change:source=changed.py"]
    ran = finish([*command, *treat, "scripts/train.py", "--lr", "3"], tmp_path)
    plain = bare("scripts/train.py", "--lr", "3")
    assert ran.out == plain.out.replace("old", "new")
    assert ran.code == plain.code == 1
    own = [line for line in ran.err.splitlines() if not line.startswith((" ", "gainstage"))]
    assert own[0] == "Traceback (most recent call last):"
    assert 'scripts/train.py", line 11' in ran.err
    assert 'raise ValueError("at the end")' in ran.err
    assert "run_changed" not in ran.err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["script"] == "train.py"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["code-change"], "code-change needs source=FILE"),
        (["code-change:source=x.py,from=3"], "code-change has no setting 'from'; it has source"),
        (["code-change:source=missing.py"], "no such script: 'missing.py'"),
        (["code-change:source=broken.py"], "broken.py:1: "),
    ],
)
def test_a_change_that_cannot_be_is_one_line_before_the_script_begins(
    options: list[str], said: str, bare: Runner, tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text("print('began')\n")
    (tmp_path / "broken.py").write_text("def (:\n")
    ran = bare("-m", "gainstage", "run", "--treat", *options, "train.py")
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_a_module_and_a_running_process_cannot_be_changed(bare: Runner, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print('began')\n")
    ran = bare("-m", "gainstage", "run", "--treat", "code-change:source=train.py", "-m", "train")
    assert (ran.code, ran.out) == (2, "")
    assert "only a script of one file can be changed" in ran.err
    with pytest.raises(ConfigError, match="only `gainstage run`"):
        watch(treat="code-change:source=train.py")


def test_its_spec_is_read_back() -> None:
    assert parse("code-change:source=a/b.py").as_text() == "code-change:source=a/b.py"
