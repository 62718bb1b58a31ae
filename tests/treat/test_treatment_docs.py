"""docs/treatments.md says what there is, and its code runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from test_treated_examples import CURES, SICK
from torch import nn

from gainstage.treat.kinds import KINDS
from gainstage.treat.settings import Word

DOCS = (Path(__file__).parents[2] / "docs" / "treatments.md").read_text()


def test_the_loop_of_the_documentation_runs() -> None:
    code = "".join(re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL))
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.randn(8, 4)).pow(2).sum().backward()
    names: dict[str, Any] = {"model": model, "optimizer": optimizer, "checkpoint": {}}
    names["batch"] = torch.randn(8, 4)
    exec(code, names)
    assert len(names["checkpoint"]["clip"]["norms"]) == 1
    assert names["norm"] > 0
    assert names["given"] == {"weight": "orthogonal for linear, fan in 4, out 2"}


def test_every_cure_of_the_examples_is_a_command_of_the_documentation_and_the_other_way() -> None:
    commands = re.findall(r"^gainstage run --treat (\S+) examples/(\S+) (.*)$", DOCS, re.MULTILINE)
    shown = {(name, treat) for treat, name, _ in commands}
    assert shown == set(CURES) - {("char_rnn.py", "lower-lr:factor=0.001")}
    for _, name, options in commands:
        short = " ".join(SICK[name])
        assert options in short, f"{name} {options}"
    kinds = {word for _, treat in shown for word in re.findall(r"(?:kind|per)=(\w+)", treat)}
    for remedy in ("clip-global-norm", "clip-adaptive", "reinit", "insert-norm"):
        for setting in KINDS[remedy].settings:
            if isinstance(setting, Word) and setting.name in ("kind", "per"):
                assert set(setting.choices) - {setting.default} <= kinds
