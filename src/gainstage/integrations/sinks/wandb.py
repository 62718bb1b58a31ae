"""Weights & Biases: an offline run, written by its own package. `wandb sync` uploads it."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gainstage.detect.symptom_json import message_of
from gainstage.facts.codec import json_safe
from gainstage.facts.run_info import RunInfo
from gainstage.facts.symptom import Symptom
from gainstage.integrations.sinks.kind import SinkKind
from gainstage.store.series import SeriesBlock

PROJECT = "gainstage"


class WandbSink:
    """An offline run below a folder, beside whatever runs the script has of its own.

    NaN and inf stay what they are. Each symptom's last message stands in the run's summary.
    """

    def __init__(self, folder: Path, info: RunInfo) -> None:
        """Begin the run. Nothing is sent: not the numbers, nor what the package tells of itself."""
        os.environ["WANDB_ERROR_REPORTING"] = "false"
        wandb: Any = importlib.import_module("wandb")
        folder.mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_code=True,
            disable_git=True,
            save_code=False,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_disable_stats=True,
        )
        self._run: Any = wandb.init(
            mode="offline",
            dir=str(folder),
            project=PROJECT,
            name=info.script,
            config={f"gainstage/{name}": value for name, value in json_safe(info).items()},
            reinit="create_new",
            settings=settings,
        )

    def write(self, block: SeriesBlock, symptoms: Sequence[Symptom] = ()) -> None:
        """Log a row a step."""
        for step, time, values in block.rows():
            row = {series.chart: value for series, value in values.items()}
            self._run.log({**row, "_timestamp": time}, step=step)
        for symptom in symptoms:
            said = f"{symptom.severity} at step {symptom.step}: {message_of(symptom)}"
            self._run.summary[f"gainstage/{symptom.symptom}"] = said

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


WANDB = SinkKind(
    name="wandb",
    title="W&B",
    open=WandbSink,
    place="folder",
    default=".",
    subfolder="wandb",
    package="wandb",
    extra="wandb",
    loses="nothing; nothing is sent before you `wandb sync`",
)
