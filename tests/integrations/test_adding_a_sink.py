"""The recipe of CONTRIBUTING.md: a `SinkKind` in the registry is all that a new sink needs."""

from __future__ import annotations

import json
import math
import re
import runpy
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from sink_scenario import FIRST, LOSS, block_of

from exploding_record import FAILS, STEPS, exploding_run
from gainstage.errors import ConfigError
from gainstage.integrations.export import export
from gainstage.integrations.sink_process import feed
from gainstage.integrations.sinks import SINKS, parse_sink
from gainstage.store.reader import load
from gainstage.store.series_line import block_line

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def lines_sink(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python sink\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    monkeypatch.setitem(SINKS, "lines", names["LINES"])


def values_of(path: Path, name: str) -> list[float]:
    lines = (line.split() for line in path.read_text().splitlines())
    return [float(value) for _, chart, value in lines if chart == name]


def test_a_run_is_exported_to_it(tmp_path: Path) -> None:
    run = exploding_run(tmp_path / "run")
    path = export(load(run), "lines")
    assert path == run / "export.txt"
    losses = values_of(path, "gainstage/loss")
    assert len(losses) == STEPS
    assert math.isnan(losses[FAILS])


def test_a_running_training_feeds_it(tmp_path: Path) -> None:
    run = exploding_run(tmp_path / "run")
    first = json.dumps({"sinks": [f"lines:{tmp_path}/live.txt"], "folder": str(run)})
    block = block_line(block_of(FIRST, range(3)), [])
    assert feed(StringIO(f"{first}\n{block}\n"), StringIO()) == 0
    assert values_of(tmp_path / "live.txt", LOSS.chart)[:2] == [1.0, 0.5]


def test_errors_and_docs_know_it() -> None:
    with pytest.raises(ConfigError, match=r"a kind of csv, .*, lines; got 'x:y'"):
        parse_sink("x:y")
    tool = runpy.run_path(str(ROOT / "tools" / "doc_tables.py"))
    assert tool["TABLES"]["sinks"]()[-1] == (
        "| `lines:FILE` | plain lines |  | `RUN/export.txt` | every step | symptoms have no place |"
    )
