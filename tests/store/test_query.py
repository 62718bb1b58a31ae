"""SQL over a run: the values of the record, nothing but the run, and no writing."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from exploding_record import FAILS, STEPS, exploding_run, norms_at
from gainstage.cli import main
from gainstage.errors import ConfigError
from gainstage.facts.run_info import RunInfo
from gainstage.show.notebook import Run, load
from gainstage.store.folder import create_run_folder


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return load(exploding_run(tmp_path / "run", ranks=2))


def test_gradients_have_a_row_a_step_and_tensor_with_the_values_of_the_record(run: Run) -> None:
    found = run.query("select * from gradients where rank = 1 order by step, tensor").to_pylist()
    assert len(found) == STEPS * 3
    for row in found:
        place = int(row["tensor"].split(".")[1])
        norm = norms_at(row["step"], 3)[place]
        assert row["module"] == f"layers.{place}"
        if norm is None:
            assert row["norm"] is None
        else:
            np.testing.assert_equal(row["norm"], float(np.float32(norm)))


def test_tensors_that_came_later_have_no_rows_before(tmp_path: Path) -> None:
    from gainstage.facts.tensor import TensorInfo
    from gainstage.store.folder import claim_rank
    from row_recorder import RowRecorder

    path = create_run_folder(tmp_path / "run", RunInfo(script="train.py"))
    infos = [TensorInfo(name, None, (), "float32") for name in "ab"]
    writer = RowRecorder(path, claim_rank(path, None), infos[:1], warn=print)
    writer.append((0, 0.0, None, None, 1.0, None, None, 0, [1.0]))
    writer.set_tensors(infos)
    writer.append((1, 1.0, None, None, 1.0, None, None, 0, [1.0, 2.0]))
    writer.close()
    found = load(path).query("select step, tensor, norm from gradients order by all")
    assert found.to_pydict() == {
        "step": [0, 1, 1],
        "tensor": ["a", "a", "b"],
        "norm": [1.0, 1.0, 2.0],
    }


def test_nan_and_inf_are_values_and_null_is_what_was_not_there(run: Run) -> None:
    sql = "select count(*) from steps where rank = 0 and "
    counts = [
        run.query(sql + where).column(0)[0].as_py()
        for where in ("isnan(loss)", "isinf(grad_norm)", "isnan(grad_norm)", "max_norm is null")
    ]
    assert counts == [STEPS - FAILS, 1, STEPS - FAILS - 1, 10]


def test_every_view_names_places_and_can_be_joined(run: Run) -> None:
    names = run.query("select name from (show tables) order by 1").column(0).to_pylist()
    views = ["gradients", "profiles", "steps", "symptoms", "tensors", "times", "weights"]
    assert names == views
    rows = {name: run.query(f"select count(*) from {name}").column(0)[0].as_py() for name in names}
    assert rows["weights"] == 2 * 6 * 3
    assert rows["tensors"] == 6
    assert rows["times"] == 6
    assert rows["symptoms"] > 1
    profile = run.query("select * from profiles where rank = 0 order by node").to_pylist()
    places = [(row["op"], row["line"], row["tensor"]) for row in profile]
    assert places == [("mm", 7, "layers.1.weight"), (None, None, None)]
    assert profile[1]["forward_bits"] == -math.inf
    ratio = run.query(
        "select max(g.norm / w.norm) from gradients g join weights w using (step, rank, tensor) "
        "where step < 50"
    )
    assert ratio.column(0)[0].as_py() == 2.0**20
    sql = "select evidence->>'$.last_step' from symptoms where symptom = 'loss-nonfinite'"
    assert run.query(sql).column(0).to_pylist() == [str(STEPS - 1)] * 2


def test_a_run_without_a_step_has_empty_views(tmp_path: Path) -> None:
    run = load(create_run_folder(tmp_path / "run", RunInfo(script="train.py")))
    for name in ("steps", "gradients", "weights", "profiles", "times", "symptoms", "tensors"):
        assert run.query(f"select * from {name}").num_rows == 0


HOSTILE = [
    "select * from read_text('{file}')",
    "select * from read_csv('{file}')",
    "select * from '{file}'",
    "select * from glob('{folder}/*')",
    "select * from read_parquet('http://127.0.0.1:9/x.parquet')",
    "copy steps to '{folder}/stolen.csv'",
    "copy (select 1) to '{folder}/stolen.csv'",
    "attach '{folder}/stolen.db'",
    "export database '{folder}/stolen'",
    "install httpfs",
    "load httpfs",
    "set enable_external_access = true",
    "set lock_configuration = false",
    "pragma enable_profiling",
    "create table mine as select 1",
    "drop view steps",
    "select 1; select 2",
    "select * from run",
    "",
]


@pytest.mark.parametrize("sql", HOSTILE)
def test_sql_sees_nothing_but_the_run_and_changes_nothing(
    sql: str, run: Run, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(ConfigError):
        run.query(sql.format(file=secret, folder=tmp_path))
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("selec 1", 'Parser Error: syntax error at or near "selec"'),
        ("select nope from steps", 'Referenced column "nope" not found in FROM clause!'),
        ("insert into steps values (1)", "one statement that reads, such as SELECT; got INSERT"),
    ],
)
def test_wrong_sql_is_one_line_and_exit_code_2(
    sql: str, said: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["query", str(run.folder), sql])
    assert exit_info.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as exit_info:
        main(["query", *arguments])
    assert exit_info.value.code == 0
    return capsys.readouterr().out


def test_json_and_csv_tell_null_nan_and_inf_apart(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(run.folder)
    sql = (
        "select step, loss, grad_norm, clip_coefficient, sum(skipped) over () as skipped, 1 as a, "
        "2 as a from steps where rank = 0 and step in (9, 50, 59) order by step"
    )
    found = json.loads(printed(capsys, folder, sql, "--json"))
    assert [row["loss"] for row in found] == [2.0, "nan", "nan"]
    assert [row["grad_norm"] for row in found[1:]] == ["inf", "nan"]
    assert [row["clip_coefficient"] for row in found] == [None, 0.0, "nan"]
    assert found[0]["skipped"] == 0
    assert (found[0]["a"], found[0]["a_1"]) == (1, 2)
    lines = printed(capsys, folder, sql, "--csv").splitlines()
    assert lines[0] == "step,loss,grad_norm,clip_coefficient,skipped,a,a"
    assert lines[2] == "50,nan,inf,0.0,0,1,2"
    assert lines[1].split(",")[3] == ""


def test_a_table_fits_80_columns_and_breaks_no_number(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(run.folder)
    for sql in ("select * from steps", "select * from symptoms", "select * from profiles"):
        lines = printed(capsys, folder, sql).splitlines()
        assert max(map(len, lines)) <= 80
    text = printed(
        capsys, folder, "select * from steps where step >= 49 and rank = 0 order by step"
    )
    assert [line.split()[3:6] for line in text.splitlines()[1:4]] == [
        ["2", "0.1", "2.37266e+07"],
        ["nan", "0.1", "inf"],
        ["nan", "0.1", "nan"],
    ]
    assert "120 rows, 80 more by --csv or --json" in printed(
        capsys, folder, "select step from steps"
    )
    hostile = printed(capsys, folder, "select chr(27) || '[31m' as evil")
    assert "\x1b" not in hostile
    assert "\\x1b[31m" in hostile
