"""A real notebook, executed by a real kernel: what a training, a record and a check look like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

CELLS = [
    """
import gainstage, torch
from torch import nn

torch.manual_seed(0)
NAME = "<img src=x onerror=alert(1)>\\x1b[31m"

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.add_module(NAME, nn.Linear(4, 4))
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        return self.head(getattr(self, NAME)(x))

def loss_of(net):
    return net(torch.randn(8, 4)).pow(2).mean()

net = Block()
sgd = torch.optim.SGD(net.parameters(), lr=5.0)
""",
    """
watch = gainstage.watch(net, sgd, out="run")
for step in range(60):
    sgd.zero_grad()
    loss_of(net).backward()
    sgd.step()
watch
""",
    'watch.stop(); gainstage.load("run")',
    'gainstage.load("run").findings',
    "other = Block()\ngainstage.check(lambda: loss_of(other))",
    "from gainstage.lab import chain\nchain(weight=2.0)",
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_each_object_shows_itself_as_html_and_as_text_and_names_stay_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat
    from nbclient import NotebookClient

    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    notebook: Any = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in CELLS])
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()
    assert notebook.cells[0].outputs == []
    shown = [
        next(each.data for each in cell.outputs if each.output_type == "execute_result")
        for cell in notebook.cells[1:]
    ]
    for data in shown:
        assert data["text/html"].lstrip().startswith("<")
        for text in data.values():
            assert "\x1b" not in text
        assert "<img" not in data["text/html"]
        assert "<script" not in data["text/html"]
        assert not data["text/plain"].startswith("<")
    watch, run, findings, profile, chain = shown
    assert "FAILED" in watch["text/html"]
    assert watch["text/plain"].startswith("Watch(folder=")
    assert "FAILED" in run["text/html"]
    for said in (findings["text/html"], findings["text/plain"]):
        assert "learning rate" in said
        assert "bits: " in said
    assert "&lt;img src=x" in profile["text/html"]
    assert "head.weight" in profile["text/plain"]
    assert "16" in chain["text/html"]
