"""Small trainings with one operation that fails at a known step, line and sample."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import gainstage
from gainstage.facts.fault import Fault
from gainstage.store.reader import StoredRun

Place = Literal["module", "loss"]

BAD_STEP, SAMPLE = 2, 3

TEMPLATE = """\
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
INF = float("inf")
OTHER = torch.full((5, 3), 0.7)
CLASSES = torch.zeros(5, dtype=torch.long)


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x, bad):
        y = {module}
        return self.scale * y


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 3)
        with torch.no_grad():
            self.body.weight.copy_(torch.eye(3))
            self.body.bias.zero_()
        self.head = Head()

    def forward(self, x, bad):
        return self.head(self.body(x), bad)


net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.0)  # what the net gives stays exact
for step in range({steps}):
    data = torch.rand(5, 3) / 2 + 0.25
    bad = (torch.arange(5).unsqueeze(1) == {sample}) & (step == {bad_step})
    if step == {bad_step}:
        data[{sample}, 1] = {value}
    x = net(data, bad)
    loss = {loss}
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@dataclass(frozen=True)
class Written:
    """A script in a file, and the line that will fail."""

    path: Path
    line: int


def write_script(folder: Path, expression: str, value: float, place: Place) -> Written:
    """Write a training in which `expression` of `x` and `bad` fails at step `BAD_STEP`.

    The network is the identity, so that `x` is the data: between 0.25 and 0.75, and `value` in
    column 1 of sample `SAMPLE` at that step. `bad` marks that sample's row at that step.

    Args:
        folder: Where to write.
        expression: In a module, of any shape; as a loss, of one element.
        value: What the data hold.
        place: Where the expression stands: in the module `head`, before a parameter, or in the
            loop, after all of them.
    """
    module, loss = (expression, "x.sum()") if place == "module" else ("x", expression)
    text = TEMPLATE.format(
        module=module, loss=loss, value=f"float('{value}')", steps=BAD_STEP + 1, sample=SAMPLE,
        bad_step=BAD_STEP,
    )  # fmt: skip
    path = folder / "train.py"
    path.write_text(text)
    mark = "        y = " if place == "module" else "    loss = "
    line = next(n for n, each in enumerate(text.splitlines(), 1) if each.startswith(mark))
    return Written(path, line)


def watch_script(path: Path) -> StoredRun:
    """Run a script in this process under `gainstage.watch`, and return its record."""
    variables: dict[str, object] = {"__name__": "__main__", "__file__": str(path)}
    try:
        with gainstage.watch(out=path.parent / "run", strict=True) as watch:
            exec(compile(path.read_bytes(), str(path), "exec"), variables)
            # A script that runs by itself still has its variables as the watch ends.
            loss = variables.get("loss")
        del loss
    finally:
        variables.clear()  # a graph that holds a class of the script's is never collected
    return gainstage.load(watch.folder)


def first_fault(run: StoredRun) -> Fault:
    """Return the first fault; at least one there must be."""
    faults = run.faults()
    assert faults, "no fault was found"
    return faults[0]
