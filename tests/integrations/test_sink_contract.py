"""What every sink promises: each value comes back by the tool's own reader, NaN and inf among them.

Rows without some series, a run begun anew at the same place, a second `close` and a place that
cannot be written are part of it. To add a sink, add its reader to `READERS`.
"""

from __future__ import annotations

import ast
import csv
import importlib.util
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from sink_scenario import AGAIN, FIRST, LOSS
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from conftest import finish
from exploding_record import exploding_run
from gainstage.detect.series.chunks import cut
from gainstage.errors import ConfigError
from gainstage.integrations.export import export_names
from gainstage.integrations.sinks import SINKS, parse_sink
from gainstage.observe.sinks import LiveSinks
from gainstage.store.foreign.wandb_log import read_wandb
from gainstage.store.reader import load
from gainstage.store.series import Series

Points = dict[str, dict[int, float]]
"""By the name of a chart, values at their steps."""


def read_csv(place: Path) -> Points:
    points: Points = {}
    with place.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name, cell in row.items():
                if cell and name not in ("step", "time"):
                    chart = name if "/" in name else f"gainstage/{name}"
                    points.setdefault(chart, {})[int(row["step"])] = float(cell)
    return points


def read_tensorboard(place: Path) -> Points:
    board = EventAccumulator(str(place))
    board.Reload()
    return {
        tag: {event.step: event.value for event in board.Scalars(tag)}
        for tag in board.Tags()["scalars"]
    }


def read_wandb_run(place: Path) -> Points:
    points: Points = {}
    newest = max(place.glob("wandb/offline-run-*"), key=lambda path: path.stat().st_mtime_ns)
    for row in read_wandb(newest):
        for name, value in row.items():
            if not name.startswith("_"):
                points.setdefault(name, {})[int(row["_step"])] = value
    return points


MLFLOW = """
import json, os, sys
os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
from pathlib import Path
from mlflow.tracking import MlflowClient
client = MlflowClient(Path(sys.argv[1]).absolute().as_uri())
runs = client.search_runs([client.get_experiment_by_name("gainstage").experiment_id])
print(json.dumps({
    name: [[each.step, each.value] for each in client.get_metric_history(run.info.run_id, name)]
    for run in reversed(runs) for name in run.data.metrics
}))
"""


def read_mlflow(place: Path) -> Points:
    ran = finish([sys.executable, "-c", MLFLOW, str(place)], place)
    assert ran.code == 0, ran.err
    points = json.loads(ran.out.splitlines()[-1])
    return {name: {step: float(value) for step, value in pairs} for name, pairs in points.items()}


def read_openmetrics(place: Path) -> Points:
    families = {
        family.name: family.samples for family in text_string_to_metric_families(place.read_text())
    }
    (step,) = (int(sample.value) for sample in families["gainstage_step"])
    points: Points = {}
    for name, samples in families.items():
        if name in ("gainstage_run", "gainstage_step", "gainstage_step_time_seconds"):
            continue
        for sample in samples:
            quantity = name.removeprefix("gainstage_").removeprefix("tensor_")
            series = Series(quantity, sample.labels.get("tensor"))
            points[series.chart] = {step: sample.value}
    return points


READERS: dict[str, Callable[[Path], Points]] = {
    "csv": read_csv,
    "tensorboard": read_tensorboard,
    "wandb": read_wandb_run,
    "mlflow": read_mlflow,
    "openmetrics": read_openmetrics,
}
every_sink = pytest.mark.parametrize("name", SINKS)


def skip_without(name: str) -> None:
    package = SINKS[name].package
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


def play(name: str, place: Path, act: str, home: Path) -> str:
    skip_without(name)
    scenario = str(Path(__file__).with_name("sink_scenario.py"))
    ran = finish([sys.executable, scenario, name, str(place), act], home, HOME=str(home))
    assert ran.code == 0, ran.err
    return ran.out


def expected(name: str, rows: dict[Series, dict[int, float]]) -> Points:
    newest = max(step for values in rows.values() for step in values)
    return {
        series.chart: kept
        for series, values in rows.items()
        if (
            kept := {
                step: value
                for step, value in values.items()
                if SINKS[name].keeps == "every step" or step == newest
            }
        )
    }


def same(found: Points, wanted: Points) -> None:
    assert found.keys() == wanted.keys()
    for chart, values in wanted.items():
        assert found[chart].keys() == values.keys(), chart
        for step, value in values.items():
            back = found[chart][step]
            assert back == pytest.approx(value, rel=1e-6, nan_ok=True)


def test_every_sink_has_a_reader() -> None:
    assert READERS.keys() == SINKS.keys()


@every_sink
def test_every_value_comes_back_also_after_a_second_run_at_the_same_place(
    name: str, tmp_path: Path
) -> None:
    place = tmp_path / "deep" / "place"
    place.parent.mkdir()
    play(name, place, "first", tmp_path)
    same(READERS[name](place), expected(name, FIRST))
    play(name, place, "again", tmp_path)
    assert READERS[name](place)[LOSS.chart][10] == AGAIN[LOSS][10]


@every_sink
def test_a_place_that_cannot_be_written_is_an_error_that_names_it(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "place"
    error, text = json.loads(play(name, place, "blocked", tmp_path).splitlines()[-1])
    assert error in ("NotADirectoryError", "FileExistsError"), text
    assert str(tmp_path / "file") in text


@every_sink
def test_a_running_training_sends_what_an_export_of_its_run_sends(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_without(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    run = load(exploding_run(tmp_path / "run"))
    block, lost = run.block(), list[str]()
    live = LiveSinks([f"{name}:{tmp_path / 'live'}"], run.folder, warn=lost.append)
    for first in range(0, len(block), 25):
        live.take(run.tensors(), cut(block, first, min(first + 25, len(block))), [])
    live.take(run.tensors(), cut(block, 0, 0), run.record(0).symptoms)
    live.close()
    assert lost == []
    command = [sys.executable, "-m", "gainstage", "export", str(run.folder), "--to", name]
    ran = finish([*command, "--out", str(tmp_path / "later")], tmp_path, HOME=str(tmp_path))
    assert ran.code == 0, ran.err
    same(READERS[name](tmp_path / "live"), READERS[name](tmp_path / "later"))


@every_sink
def test_a_kind_says_where_it_writes_and_is_named_by_help_and_errors(name: str) -> None:
    kind = SINKS[name]
    assert bool(kind.package) == bool(kind.extra)
    assert name in export_names()
    script = Path(sys.modules["gainstage"].__file__ or "").parent / "cli"
    place = {"file": "FILE", "folder": "DIR"}[kind.place]
    assert f"{name}:{place}" in _help_of(script / "script.py")
    assert re.search(rf"\b{name}\b", _help_of(script / "share.py"))
    with pytest.raises(ConfigError, match=rf"a kind of .*\b{name}\b.*; got 'nowhere:x'"):
        parse_sink("nowhere:x")
    with pytest.raises(ConfigError, match="--sink must be KIND:PATH"):
        parse_sink(f"{name}:")


def _help_of(module: Path) -> str:
    """Return the texts of a module, those that go over several lines joined."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return "\n".join(text for text in texts if isinstance(text, str))
