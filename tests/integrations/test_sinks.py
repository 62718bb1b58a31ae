"""What other tools read back of an exported run: every value, NaN and inf among them."""

from __future__ import annotations

import dataclasses
import json
import math
import socket
import sys
import threading
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from conftest import finish
from exploding_record import FAILS, STEPS, exploding_run
from gainstage.cli import main
from gainstage.detect.loss.loss_nonfinite import LossNonfiniteEvidence
from gainstage.errors import ConfigError
from gainstage.facts.run_info import RunInfo
from gainstage.facts.symptom import Symptom
from gainstage.integrations.export import export
from gainstage.integrations.sink_process import feed
from gainstage.integrations.sinks import SINKS, SinkSpec, parse_sink
from gainstage.integrations.sinks.openmetrics import OpenMetricsSink
from gainstage.integrations.sinks.tensorboard import TensorBoardSink
from gainstage.store.foreign.log import read_log
from gainstage.store.foreign.wandb_log import read_wandb
from gainstage.store.reader import load
from gainstage.store.series import Series, SeriesBlock
from gainstage.store.series_line import block_line

LAST = "grad_norm/layers.2.weight"


def column(folder: Path) -> list[float]:
    """Return the norms of the tensor that grows, as the record has them."""
    return load(folder).block().grad_norms[:, 2].astype(float).tolist()


def one_step(values: dict[Series, float], step: int = 0) -> SeriesBlock:
    row = np.array([list(values.values())], np.float64)
    return SeriesBlock(
        np.array([step]), np.array([1e9]), tuple(values), row, np.ones(row.shape, np.bool_)
    )


def test_tensorboard_reads_scalars_and_symptoms_back(tmp_path: Path) -> None:
    run = exploding_run(tmp_path / "run")
    export(load(run), "tensorboard", tmp_path / "board")
    board = EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    scalars = board.Scalars(LAST)
    assert [each.step for each in scalars] == list(range(STEPS))
    assert scalars[3].wall_time == 1e9 + 3
    np.testing.assert_array_equal([each.value for each in scalars], column(run))
    assert [each.step for each in board.Scalars("grad_norm/layers.0.weight")][4:6] == [4, 6]
    assert math.isnan(board.Scalars("gainstage/loss")[FAILS].value)
    (text,) = board.Tensors("gainstage/loss-nonfinite")
    assert text.step == FAILS
    assert text.tensor_proto.string_val[0].startswith(b"critical: the loss became nan at step 50")
    findings = read_log(tmp_path / "board").findings
    assert findings.verdict == "failed"


def test_what_float32_cannot_hold_is_its_largest_value_in_tensorboard(tmp_path: Path) -> None:
    sink = TensorBoardSink(tmp_path)
    values = [1e300, -1e300, math.inf, -math.inf, math.nan, 1e-3]
    for step, value in enumerate(values):
        sink.write(one_step({Series("loss"): value}, step))
    sink.close()
    board = EventAccumulator(str(tmp_path))
    board.Reload()
    largest = float(np.finfo(np.float32).max)
    found = [each.value for each in board.Scalars("gainstage/loss")]
    expected = [largest, -largest, math.inf, -math.inf, math.nan, float(np.float32(1e-3))]
    np.testing.assert_array_equal(found, expected)


def test_openmetrics_is_parsed_by_prometheus(tmp_path: Path) -> None:
    path = tmp_path / "metrics.txt"
    sink = OpenMetricsSink(path, RunInfo(script='evil"\\\n.py'))
    values = {
        Series("loss"): math.nan,
        Series("grad_norm"): math.inf,
        Series("clip_coefficient"): -math.inf,
        Series("skipped"): -1.0,
        Series("grad_norm", 'a"\\\nb'): 2.0,
        Series("grad_norm", "c"): math.inf,
    }
    symptom = Symptom(
        "loss-nonfinite", "critical", 7, LossNonfiniteEvidence(value=math.nan, at_step=7), 7
    )
    sink.write(one_step(values, 7), [symptom])
    text = path.read_text()
    assert text.endswith("# EOF\n")
    families = {each.name: each for each in text_string_to_metric_families(text)}
    assert families["gainstage_run"].samples[0].labels == {"script": 'evil"\\\n.py'}
    assert families["gainstage_step"].samples[0].value == 7
    assert math.isnan(families["gainstage_loss"].samples[0].value)
    assert families["gainstage_grad_norm"].samples[0].value == math.inf
    assert families["gainstage_clip_coefficient"].samples[0].value == -math.inf
    tensors = families["gainstage_tensor_grad_norm"].samples
    assert [(each.labels["tensor"], each.value) for each in tensors] == [
        ('a"\\\nb', 2.0),
        ("c", math.inf),
    ]
    (said,) = families["gainstage_symptom_step"].samples
    assert (said.labels["severity"], said.value) == ("critical", 7)
    assert [each.name for each in tmp_path.iterdir()] == ["metrics.txt"]


class Listener:
    """A proxy that lets nobody through and counts who asked."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.asked = 0
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self.asked += 1
            connection.close()

    def close(self) -> None:
        self._server.close()


def without_network(code: str, cwd: Path) -> Any:
    """Run Python with all connections to the world going to a proxy that counts them."""
    listener = Listener()
    proxies = {name: listener.address for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")}
    proxies |= {name.lower(): address for name, address in proxies.items()}
    home = {"HOME": str(cwd), "WANDB_MODE": "online"}
    ran = finish([sys.executable, "-c", code], cwd, **proxies, **home)
    listener.close()
    assert ran.code == 0, ran.err
    assert listener.asked == 0
    return json.loads(ran.out.splitlines()[-1]) if ran.out.strip() else None


EXPORT = (
    "from gainstage.cli import main\ntry: main({})\nexcept SystemExit as e: assert not e.code\n"
)


def test_an_offline_run_of_wandb_is_read_back_and_nothing_was_sent(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    run = exploding_run(tmp_path / "run")
    without_network(EXPORT.format(["export", "run", "--to", "wandb", "--out", "out"]), tmp_path)
    (folder,) = (tmp_path / "out" / "wandb").glob("offline-run-*")
    rows = read_wandb(folder)
    assert [row["_step"] for row in rows] == list(range(STEPS))
    assert rows[3]["_timestamp"] == 1e9 + 3
    np.testing.assert_array_equal([row[LAST] for row in rows], column(run))
    assert "grad_norm/layers.0.weight" not in rows[5]
    assert read_log(folder).findings.verdict == "failed"


MLFLOW = """
import json, os
os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
from pathlib import Path
from mlflow.tracking import MlflowClient
client = MlflowClient(Path("out").absolute().as_uri())
(run,) = client.search_runs([client.get_experiment_by_name("gainstage").experiment_id])
history = client.get_metric_history(run.info.run_id, "grad_norm/layers.2.weight")
tag = run.data.tags["gainstage/loss-nonfinite"]
print(json.dumps([[[m.step, m.timestamp, m.value] for m in history], tag, run.info.status,
    run.data.params["script"], run.data.metrics["gainstage/grad_norm"]]))
"""


def test_a_run_of_mlflow_is_read_back_by_its_client(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    run = exploding_run(tmp_path / "run")
    export_code = EXPORT.format(["export", "run", "--to", "mlflow", "--out", "out"])
    history, tag, status, script, norm = without_network(export_code + MLFLOW, tmp_path)
    assert [step for step, _, _ in history] == list(range(STEPS))
    assert history[3][1] == (10**9 + 3) * 1000
    np.testing.assert_array_equal([value for _, _, value in history], column(run))
    assert tag == "critical at step 50: the loss became nan at step 50"
    assert (status, script) == ("FINISHED", "train.py")
    assert math.isnan(norm)


def exported(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as exit_info:
        main(["export", *arguments])
    return int(exit_info.value.code or 0), capsys.readouterr().err


def test_export_says_what_it_wrote_and_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(exploding_run(tmp_path / "run", ranks=3))
    code, said = exported(capsys, folder, "--to", "csv", "--rank", "1")
    assert code == 0
    assert said == (
        f"gainstage: wrote csv of 60 steps to {folder}/export.csv; the run has ranks 0, 1, 2\n"
    )
    code, said = exported(capsys, folder, "--to", "excel")
    assert code == 2
    assert "--to must be one of csv, tensorboard, wandb" in said
    code, said = exported(capsys, folder, "--to", "csv", "--rank", "9")
    assert code == 2
    assert "no rank 9" in said
    code, said = exported(capsys, folder, "--to", "parquet", "--out", f"{folder}/run.json/x")
    assert code == 2
    assert said.count("\n") == 1
    assert "cannot export to parquet" in said


def test_a_sink_that_cannot_be_is_refused_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("excel:x", "csv", "csv:", ""):
        with pytest.raises(ConfigError, match="--sink must be KIND:PATH with a kind of csv,"):
            parse_sink(text)
    assert parse_sink("csv:a:b.csv") == SinkSpec("csv", Path("a:b.csv").absolute())
    missing = dataclasses.replace(SINKS["wandb"], package="no_such_package")
    monkeypatch.setitem(SINKS, "wandb", missing)
    with pytest.raises(ConfigError, match=r"no_such_package: pip install 'gainstage\[wandb\]'"):
        parse_sink("wandb:x")


def test_a_sink_that_fails_is_dropped_with_a_line_and_the_others_go_on(tmp_path: Path) -> None:
    run = exploding_run(tmp_path / "run")
    (tmp_path / "file").write_text("")
    names = ["csv:good.csv", "csv:file/bad.csv", "openmetrics:gone/metrics.txt"]
    specs = [f"{name.split(':')[0]}:{tmp_path / name.split(':')[1]}" for name in names]
    first = json.dumps({"sinks": specs, "folder": str(run)})
    blocks = [block_line(one_step({Series("loss"): 1.0}, step), []) for step in range(3)]

    class Lines(StringIO):
        """The pipe: the folder of one sink goes away before the second block."""

        def __next__(self) -> str:
            line = super().__next__()
            if '"step": [1]' in line:
                (tmp_path / "gone" / "metrics.txt").unlink()
                (tmp_path / "gone").rmdir()
            return line

    said = StringIO()
    assert feed(Lines("\n".join([first, *blocks, ""])), said) == 1
    lines = said.getvalue().splitlines()
    assert [line.split(" is dropped, training goes on: ")[0] for line in lines] == [
        f"gainstage: sink {spec}" for spec in specs[1:]
    ]
    assert (tmp_path / "good.csv").read_text().count("\n") == 4
