"""docs/export.md does what it says: its SQL answers, its Python runs, its commands parse."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from exploding_record import exploding_run
from gainstage.cli import app
from gainstage.show.notebook import Run, load
from gainstage.store.views import views_of

TEXT = (Path(__file__).parents[1] / "docs" / "export.md").read_text()
QUERIES = re.findall(r'gainstage query RUN "(.*?)"', TEXT, re.DOTALL)
COMMANDS = re.findall(r"^(gainstage (?:export|run) [^#&\n]+)", TEXT, re.MULTILINE)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return load(exploding_run(tmp_path / "run"))


def test_every_query_answers(run: Run) -> None:
    assert len(QUERIES) == 5
    rows = [run.query(sql).num_rows for sql in QUERIES]
    assert rows == [3, 3, 18, 0, 9]


def test_every_table_has_the_columns_that_are_named(run: Run) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", TEXT, re.MULTILINE))
    assert set(rows) == set(views_of(run))
    for name, said in rows.items():
        columns = set(run.query(f"select * from {name}").column_names)
        named = set(re.findall(r"`(\w+)`", said)) - ({"norm"} if "the same" in said else set())
        assert named <= columns, name


def test_the_python_runs(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(compile(code.replace('"RUN"', repr(str(run.folder))), "export.md", "exec"), {})
    printed = capsys.readouterr().out
    assert re.search(r"^59\s+NaN\s+NaN$", printed, re.MULTILINE)
    assert "layers.2.weight" in printed


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_parses(line: str) -> None:
    _, verb, *arguments = shlex.split(line)
    command = get_command(app).commands[verb]  # pyright: ignore[reportAttributeAccessIssue]
    assert command.make_context(verb, arguments)
