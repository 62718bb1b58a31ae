"""The recipe of CONTRIBUTING.md: a descriptor in the registry is all that a new treatment needs."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gainstage
from gainstage.errors import ConfigError
from gainstage.prescribe.candidate import candidate
from gainstage.prescribe.patch.diff import by_hand
from gainstage.prescribe.patch.treatments import EDITS
from gainstage.treat.kinds import KINDS
from gainstage.treat.spec import parse

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def shrink_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python treatment\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    monkeypatch.setitem(KINDS, "shrink-gradients", names["SHRINK_GRADIENTS"])


def test_it_treats_a_training_and_is_recorded(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    with gainstage.watch(out=tmp_path / "run", treat="shrink-gradients:factor=0.25,until=1"):
        for _ in range(2):
            optimizer.zero_grad()
            (weight * torch.tensor([4.0, 8.0])).sum().backward()
            optimizer.step()
    assert weight.tolist() == [-5.0, -10.0]
    ended = json.loads((tmp_path / "run" / "treatments.jsonl").read_text().splitlines()[-1])
    assert (ended["remedy"], ended["touched"]) == ("shrink-gradients", 1)
    assert ended["settings"] == {"factor": 0.25, "until": 1.0}
    assert gainstage.load(tmp_path / "run").block().clip_coefficient.tolist()[0] == 0.25


def test_command_line_and_docs_and_trials_know_it() -> None:
    with pytest.raises(ConfigError, match="factor must be above 0 and below 1, got 2"):
        parse("shrink-gradients:factor=2")
    with pytest.raises(ConfigError, match=r"no remedy 'x'; there are .*, shrink-gradients"):
        parse("x")
    tool = runpy.run_path(str(ROOT / "tools" / "doc_tables.py"))
    assert tool["TABLES"]["treatments"]()[-1] == (
        "| `shrink-gradients` | `factor=0.5` | multiplies every gradient by `factor` "
        "| on the gradients |  | one write of all gradients |"
    )
    shrink, norm = candidate("shrink-gradients", why=""), candidate("insert-norm", why="")
    assert norm.complexity() < shrink.complexity()
    instruction = by_hand(shrink.specs, "why").instruction
    assert instruction == "multiply each gradient by 0.5 before the optimizer's step (no diff: why)"


def test_every_kind_has_an_edit_of_the_source_or_says_why_not() -> None:
    for kind in KINDS.values():
        ways = [kind.changes_source, kind.id in EDITS, bool(kind.why_no_edit)]
        assert sum(ways) == 1, f"{kind.id}: an edit in EDITS, or why_no_edit"
    assert set(EDITS) <= set(KINDS)
    for kind in KINDS.values():
        assert kind.by_hand.format(**kind.values({"source": "x.py"}))
