"""MLflow: a run in a store of files, written by its own client."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from gainstage.detect.symptom_json import message_of
from gainstage.facts.codec import json_safe
from gainstage.facts.run_info import RunInfo
from gainstage.facts.symptom import Symptom
from gainstage.integrations.sinks.kind import SinkKind
from gainstage.store.series import Series, SeriesBlock

EXPERIMENT = "gainstage"
_MOST_METRICS = 1000
"""In one call, MLflow's own limit."""
_LONGEST_NAME = 240
_FOREIGN = re.compile(r"[^\w\-. /:]", re.ASCII)


class MlflowSink:
    """A run of the experiment `gainstage`; symptoms are its tags.

    NaN and inf stay what they are in a store of files. A name with signs that MLflow does not
    take, such as `[`, has `_` in their place.
    """

    def __init__(self, folder: Path, info: RunInfo) -> None:
        """Begin the run."""
        # Stores of files are refused by newer versions unless asked for; the others need a server
        # or SQLAlchemy.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        tracking: Any = importlib.import_module("mlflow.tracking")
        self._entities: Any = importlib.import_module("mlflow.entities")
        folder.mkdir(parents=True, exist_ok=True)
        self._client: Any = tracking.MlflowClient(folder.absolute().as_uri())
        found = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = found.experiment_id if found else self._client.create_experiment(EXPERIMENT)
        run = self._client.create_run(experiment, run_name=info.script)
        self._id: str = run.info.run_id
        said: dict[str, Any] = json_safe(info)
        params = [self._entities.Param(name, str(value)[:500]) for name, value in said.items()]
        self._client.log_batch(self._id, params=params)
        self._names: dict[Series, str] = {}

    def write(self, block: SeriesBlock, symptoms: Sequence[Symptom] = ()) -> None:
        """Log a metric a step and series."""
        metrics = (
            self._entities.Metric(self._name(series), value, round(time * 1000), step)
            for step, time, values in block.rows()
            for series, value in values.items()
        )
        while some := list(islice(metrics, _MOST_METRICS)):
            self._client.log_batch(self._id, metrics=some)
        for symptom in symptoms:
            said = f"{symptom.severity} at step {symptom.step}: {message_of(symptom)}"
            self._client.set_tag(self._id, f"gainstage/{symptom.symptom}", said)

    def close(self) -> None:
        """Finish the run."""
        self._client.set_terminated(self._id)

    def _name(self, series: Series) -> str:
        if series not in self._names:
            plain = _FOREIGN.sub("_", series.chart)[:_LONGEST_NAME]
            taken, number, name = set(self._names.values()), 1, plain
            while name in taken:
                number += 1
                name = f"{plain}-{number}"
            self._names[series] = name
        return self._names[series]


MLFLOW = SinkKind(
    name="mlflow",
    title="MLflow",
    open=MlflowSink,
    place="folder",
    default="mlflow",
    package="mlflow",
    extra="mlflow",
    loses="a store of files, which MLflow 3 opens with `MLFLOW_ALLOW_FILE_STORE=true` only; signs "
    "such as `[` in names are `_`; about 4,000 numbers a second",
)
