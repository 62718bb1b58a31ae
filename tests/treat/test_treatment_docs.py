"""docs/treatments.md says what there is, and its code runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from test_treated_examples import CURES, SICK
from torch import nn

from gainstage.treat.settings import SETTINGS, Number, Setting, Word

DOCS = (Path(__file__).parents[2] / "docs" / "treatments.md").read_text()


def shown(setting: Setting) -> str:
    if isinstance(setting, Number):
        return f"{setting.name}={setting.default!r}".removesuffix(".0")
    return f"{setting.name}={setting.default or 'FILE'}"


def test_every_remedy_setting_and_default_is_documented() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)[:`][^\n]*", DOCS, re.MULTILINE)
    assert set(rows) >= set(SETTINGS)
    for remedy, settings in SETTINGS.items():
        lines = "\n".join(re.findall(rf"^\| `{remedy}[:`][^\n]*", DOCS, re.MULTILINE))
        for setting in settings:
            wanted = shown(setting).replace("1e-08", "1e-8").replace("1e-05", "1e-5")
            if (remedy, setting.name) != ("clip-adaptive", "kind"):  # each kind is a row
                assert f"`{wanted}`" in lines, f"{remedy} {wanted}"
            for choice in () if isinstance(setting, Number) else setting.choices:
                assert choice in DOCS


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
        for setting in SETTINGS[remedy]:
            if isinstance(setting, Word) and setting.name in ("kind", "per"):
                assert set(setting.choices) - {setting.default} <= kinds
