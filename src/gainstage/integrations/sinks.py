"""Where a run's numbers can go: kinds of sinks, how one is named and opened. Needs no torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gainstage.errors import ConfigError
from gainstage.facts.run_info import RunInfo
from gainstage.facts.symptom import Symptom
from gainstage.store.series import SeriesBlock


class Sink(Protocol):
    """What takes the numbers of a run. Any method may raise: the sink is dropped then."""

    def write(self, block: SeriesBlock, symptoms: Sequence[Symptom] = ()) -> None:
        """Take the next steps, and the symptoms that they have brought or changed."""
        ...

    def close(self) -> None:
        """Finish what was begun."""
        ...


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of sink."""

    default: str
    """Where an export goes within the run's folder."""
    package: str | None = None
    """What must be installed."""
    extra: str | None = None
    """The extra of gainstage that installs it."""


KINDS: Mapping[str, Kind] = {
    "csv": Kind("export.csv"),
    "tensorboard": Kind("tensorboard", "tensorboard", "integrations"),
    "wandb": Kind(".", "wandb", "wandb"),
    "mlflow": Kind("mlflow", "mlflow", "mlflow"),
    "openmetrics": Kind("metrics.txt"),
}


@dataclass(frozen=True, slots=True)
class SinkSpec:
    """A sink as `--sink KIND:PATH` names it."""

    kind: str
    path: Path

    def as_text(self) -> str:
        """Return the spec as `--sink` takes it."""
        return f"{self.kind}:{self.path}"


def parse_sink(text: str) -> SinkSpec:
    """Return the sink that a text such as `tensorboard:DIR` names, its path absolute.

    Raises:
        ConfigError: If there is no such kind, no path, or its package is not installed.
    """
    kind, _, path = text.partition(":")
    if kind not in KINDS or not path:
        kinds = ", ".join(KINDS)
        raise ConfigError(f"--sink must be KIND:PATH with a kind of {kinds}; got {text!r}")
    check_installed(kind)
    return SinkSpec(kind, Path(path).absolute())


def check_installed(kind: str) -> None:
    """Make sure that a kind's package is there, without importing it.

    Raises:
        ConfigError: If it is not; the message names the extra that installs it.
    """
    needed = KINDS[kind]
    if needed.package is not None and importlib.util.find_spec(needed.package) is None:
        raise ConfigError(
            f"{kind} needs the package {needed.package}: pip install 'gainstage[{needed.extra}]'"
        )


def open_sink(spec: SinkSpec, info: RunInfo) -> Sink:
    """Return a sink that is ready to take numbers.

    Args:
        spec: Kind and place.
        info: What run.json says of the run.

    Raises:
        OSError: If its place cannot be written. The packages raise what they like besides.
    """
    if spec.kind == "csv":
        from gainstage.store.export import CsvFile

        return CsvFile(spec.path)
    if spec.kind == "tensorboard":
        from gainstage.integrations.tensorboard_sink import TensorBoardSink

        return TensorBoardSink(spec.path)
    if spec.kind == "wandb":
        from gainstage.integrations.wandb_sink import WandbSink

        return WandbSink(spec.path, info)
    if spec.kind == "mlflow":
        from gainstage.integrations.mlflow_sink import MlflowSink

        return MlflowSink(spec.path, info)
    from gainstage.integrations.openmetrics_sink import OpenMetricsSink

    return OpenMetricsSink(spec.path, info)
