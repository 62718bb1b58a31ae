"""How gainstage gets into a script: beside other tools; where it cannot, it says so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import gainstage
from conftest import Runner, finish
from gainstage.store.reader import load

TRAIN = """
import torch
w = torch.ones(2, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    w.square().sum().backward()
    optimizer.step()
print(w.tolist(), type(torch.__loader__).__name__, torch.__spec__.loader is torch.__loader__)
"""
TOOL = """
import importlib.util
import sys


class Tool:
    def find_spec(self, name, path, target=None):
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            print("the tool has seen", module.__name__)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(int(sys.argv[1]), Tool())
"""


@pytest.mark.parametrize("place", ["0", "1"])
def test_another_tools_hook_for_the_import_of_torch_is_called(
    place: str, tmp_path: Path, bare: Runner, watched: Runner
) -> None:
    (tmp_path / "train.py").write_text(TOOL + TRAIN)
    alone, ran = bare("train.py", place), watched("train.py", place)
    assert alone.out.startswith("the tool has seen torch\n")
    assert (ran.code, ran.out) == (alone.code, alone.out)
    assert len(load(ran.folder).block()) == 3


@pytest.mark.parametrize("flag", ["-E", "-I"])
def test_a_python_that_ignores_its_environment_is_told_to_watch_nothing(
    flag: str, tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text("print('never')")
    # Of a Python that ignores PYTHONPATH the package under test is put first by hand.
    home = Path(gainstage.__file__).parents[1]
    start = f"import sys; sys.path.insert(0, {str(home)!r}); import gainstage.cli as c; c.main()"
    ran = finish([sys.executable, flag, "-c", start, "run", "--out", "run", "train.py"], tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.count("\n") == 1
    assert f"python {flag} does not let gainstage into the script" in ran.err
    assert not ran.folder.exists()
