"""What an operation is like decides, not what it is called: read off the sources and a real run."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gainstage.facts.fault import Site
from gainstage.facts.sites_file import GraphShape, SitesFile
from gainstage.graph.operations.table import OPERATIONS
from gainstage.store.sites import read_sites
from imports import SOURCE

NAMED_BY_EARLIER_VERSIONS = {"store/older_faults.py", "store/older_sites.py"}
"""They read folders in which names are all there is."""
OUTSIDE = [
    path
    for path in sorted(SOURCE.rglob("*.py"))
    if "graph/operations/" not in path.as_posix()
    and path.relative_to(SOURCE).as_posix() not in NAMED_BY_EARLIER_VERSIONS
]
TRAIN = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        y = self.second(torch.relu(self.first(x)))
        return x + y.view(4, 2, 8).reshape(8, 8)


torch.manual_seed(0)
model = nn.Sequential(*(Block() for _ in range(5)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(5):
    optimizer.zero_grad()
    loss = model(torch.randn(8, 8)).square().mean()
    loss.backward()
    optimizer.step()
"""


def is_operation(node: ast.expr) -> bool:
    """Tell whether an expression is the name of an operation."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in ("op_of", "class_name_of")
    return (isinstance(node, ast.Attribute) and node.attr == "op") or (
        isinstance(node, ast.Name) and node.id == "op"
    )


def names_in(tree: ast.AST) -> Iterator[int]:
    """Yield the lines that hold an operation's name, or compare one with something."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in OPERATIONS:
            yield node.lineno
        if isinstance(node, ast.Compare) and any(map(is_operation, (node.left, *node.comparators))):
            others = [side for side in (node.left, *node.comparators) if not is_operation(side)]
            if not all(isinstance(each, ast.Constant) and each.value is None for each in others):
                yield node.lineno
        if isinstance(node, ast.Match) and is_operation(node.subject):
            yield node.lineno


@pytest.mark.parametrize(
    "text", ['site.op == "add"', "op_of(node) in NAMES", 'name == "LogBackward0"', "op not in X"]
)
def test_a_decision_by_name_is_seen(text: str) -> None:
    assert list(names_in(ast.parse(text))) == [1]


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_no_room_decides_by_the_name_of_an_operation(path: Path) -> None:
    assert not list(names_in(ast.parse(path.read_text())))


def test_sites_of_a_run_say_what_their_operations_are_like(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(TRAIN)
    run = [sys.executable, "-m", "gainstage", "run", "--out", "out", str(script)]
    done = subprocess.run(run, cwd=tmp_path, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    file, _ = read_sites(tmp_path / "out", 0)
    traits = {site.op: (site.adds, site.keeps_values) for site in file.sites}
    assert traits["add"] == (True, False)
    assert traits["view"] == (False, True)
    assert traits["relu"] == traits["addmm"] == (False, False)
    assert file.stream_adds == 5

    earlier = json.loads((tmp_path / "out/sites.json").read_text())
    for site in earlier["sites"]:
        del site["adds"], site["keeps_values"]
    (tmp_path / "out/sites.json").write_text(json.dumps(earlier))
    assert read_sites(tmp_path / "out", 0)[0] == file


def test_a_site_decides_by_its_trait_and_not_by_its_name() -> None:
    site = Site("add", "layers", "forward", "train.py", 3, adds=True)
    shape = (GraphShape((0, 0)),)
    assert SitesFile(sites=(site,), graphs=shape).stream_adds == 2
    assert SitesFile(sites=(replace(site, op="plus"),), graphs=shape).stream_adds == 2
    assert SitesFile(sites=(replace(site, adds=False),), graphs=shape).stream_adds == 0
