"""Three trainings that other tools notice late and explain not at all, each from its first sign."""

from __future__ import annotations

from pathlib import Path

import pytest

import gainstage
from gainstage.facts.findings import Findings
from messages import assert_messages_do_not_decide
from script_runs import run_script

DEEP = """\
import torch
from torch import nn

torch.manual_seed(0)
layers = []
for _ in range(20):
    layer = nn.Linear(64, 64)
    nn.init.normal_(layer.weight, std=0.25)
    layers += [layer]
model = nn.Sequential(*layers)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
for step in range(6):
    x = torch.randn(32, 64)
    loss = (model(x) - x).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""

RECURRENT = """\
from pydoc_data import topics

import torch
from torch import nn

torch.manual_seed(0)
text = topics.topics["assert"] + topics.topics["class"]
letters = sorted(set(text))
code = torch.tensor([letters.index(each) for each in text])
embed, rnn = nn.Embedding(len(letters), 64), nn.RNN(64, 128, nonlinearity="relu", batch_first=True)
read = nn.Linear(128, len(letters))
nn.init.orthogonal_(rnn.weight_hh_l0, 1.35)
parameters = [*embed.parameters(), *rnn.parameters(), *read.parameters()]
optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9)
for step in range(45):
    at = torch.randint(0, len(code) - 65, (16,)).tolist()
    batch = torch.stack([code[i : i + 65] for i in at])
    logits = read(rnn(embed(batch[:, :-1]))[0])
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""

MASKED = """\
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 4), nn.Softmax(dim=1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for step in range(64):
    x, target = torch.randn(16, 8), torch.rand(16, 4)
    mask = torch.ones(16, 4)
    if step == 60:
        mask[5, 2] = 0.0
    p = model(x) * mask
    loss = -(target * mask * torch.log(p)).mean()  # 0 * log 0
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def findings(script: str, tmp_path: Path) -> Findings:
    path = tmp_path / "train.py"
    path.write_text(script)
    with gainstage.watch(out=tmp_path / "run"):
        run_script(path)
    assert_messages_do_not_decide(tmp_path / "run")
    return gainstage.load(tmp_path / "run").findings


def first_alarm(found: Findings) -> int:
    return min(each.step for each in found.symptoms if each.severity != "info")


def test_depth_gain_is_noticed_at_step_0_and_called_so(tmp_path: Path) -> None:
    found = findings(DEEP, tmp_path)
    assert first_alarm(found) == 0
    assert "depth-gain" in [each.symptom for each in found.symptoms if each.step == 0]
    assert found.diagnosis is not None
    assert found.diagnosis.cause == "init-scale"


def test_recurrent_gain_is_noticed_by_step_4_and_called_so(tmp_path: Path) -> None:
    found = findings(RECURRENT, tmp_path)
    assert first_alarm(found) <= 4
    assert found.diagnosis is not None
    assert found.diagnosis.cause == "recurrent-gain"


def test_a_masked_log_of_zero_has_its_line_and_sample(tmp_path: Path) -> None:
    found = findings(MASKED, tmp_path)
    assert first_alarm(found) == 60
    assert found.diagnosis is not None
    site = found.diagnosis.site
    assert found.diagnosis.cause == "numeric-op"
    assert (site.op, site.samples) == ("log", (5,))
    assert MASKED.splitlines()[site.line - 1].endswith("# 0 * log 0")


CARRIED = """\
import torch
from torch import nn

torch.manual_seed(0)
cell, read = nn.Linear(8, 8, bias=False), nn.Linear(8, 1)
nn.init.orthogonal_(cell.weight, 1.1)
parameters = [*cell.parameters(), *read.parameters()]
optimizer = torch.optim.Adam(parameters, lr=1e-4)
state = torch.randn(4, 8)
for step in range(120):
    seen = []
    for _ in range(8):
        state = cell(state)  # here
        seen.append(state / state.pow(2).mean(-1, keepdim=True).sqrt())
    loss = (read(torch.stack(seen)) - 1).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    state = state.detach()
"""

UNSTEPPED = """\
import torch

other = torch.nn.Linear(4, 4)
waiting = torch.optim.SGD(other.parameters(), lr=0.1)
"""

MEMORY = """\
import torch
from torch import nn


class Memory(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.zeros(16, 4, dtype=torch.half))
        self.read = nn.Linear(4, 1)

    def forward(self, ids):
        return self.read(self.table[ids].float().log1p())


torch.manual_seed(0)
model = Memory()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for step in range(60):
    ids = torch.randint(0, 16, (32,))
    loss = (model(ids) - 1).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        model.table[3] += 1500
"""


@pytest.mark.parametrize("others", ["", UNSTEPPED], ids=["alone", "beside-an-unstepped-optimizer"])
def test_a_state_that_grows_from_step_to_step_is_recurrent_gain_and_forecast(
    others: str, tmp_path: Path
) -> None:
    found = findings(others + CARRIED, tmp_path)
    assert found.diagnosis is not None
    assert found.diagnosis.cause == "recurrent-gain"
    assert "no weight more than" in found.diagnosis.evidence[0].text
    forecast = next(each for each in found.symptoms if each.symptom == "overflow-forecast")
    failure = found.diagnosis.failure_step
    assert forecast.step <= failure - 10
    earliest, latest = forecast.evidence.earliest_step, forecast.evidence.latest_step
    assert earliest - 5 <= failure <= latest + 5


def test_a_half_precision_buffer_that_overflows_is_no_bad_data(tmp_path: Path) -> None:
    found = findings(MEMORY, tmp_path)
    assert found.diagnosis is not None
    assert found.diagnosis.cause == "dtype-overflow"
    assert "`table`, a buffer in float16" in found.diagnosis.evidence[0].text


FILLED = """\
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for step in range(30):
    x = torch.randn(12, 4)
    target = x.sum(1, keepdim=True)
    if step == 20:
        target[7] = 9.97e36  # a fill value
    loss = (model(x) - target).square().mean()  # here
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""

OWN = """\
import torch
from torch import nn


class Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        s = x.exp() / (1 + x.exp())
        return grad * s * (1 + x * (1 - s))


torch.manual_seed(0)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
for step in range(30):
    x = torch.rand(12, 4)
    y = model(x)
    if step == 20:
        y = y + torch.where(torch.arange(12) == 5, 100.0, 0.0)[:, None]
    loss = Gate.apply(y).tanh().mean()  # here
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
del loss, y  # a graph that holds a class of this module would keep it alive, in this process
"""


PAIRS = """\
import torch

torch.manual_seed(0)
pairs = torch.nn.Bilinear(2, 2, 1, dtype=torch.float64)
optimizer = torch.optim.SGD(pairs.parameters(), lr=0.0)
for step in range(6):
    x = torch.randn(8, 2, dtype=torch.float64) * (1e200 if step == 4 else 1.0)
    loss = pairs(x, x).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("script", "cause", "op", "sample"),
    [(FILLED, "bad-data", "pow", 7), (OWN, "numeric-op", "Gate", 5)],
)
def test_a_sample_that_overflows_in_the_loss_or_in_an_own_backward_pass_is_named(
    script: str, cause: str, op: str, sample: int, tmp_path: Path
) -> None:
    found = findings(script, tmp_path)
    assert found.diagnosis is not None
    site = found.diagnosis.site
    assert (found.diagnosis.cause, found.diagnosis.failure_step) == (cause, 20)
    assert (site.op, site.samples) == (op, (sample,))
    assert script.splitlines()[site.line - 1].endswith("# here")


def test_a_product_that_overflows_float64_inside_an_operation_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    findings(PAIRS, tmp_path)
    assert "a fault of gainstage" not in capfd.readouterr().err
    fault = gainstage.load(tmp_path / "run").record().fault
    assert fault is not None
    assert (fault.step, fault.kind) == (4, "overflow")
    assert "trilinear overflows float64" in fault.text
