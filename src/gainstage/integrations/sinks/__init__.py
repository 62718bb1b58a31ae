"""Where a run's numbers can go: all kinds of sinks, and how one is named. Needs no torch.

To add one, write its class and its `SinkKind` in a file here and put that into `_ALL`. `--sink`,
`--to`, help and docs follow from the list.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gainstage.errors import ConfigError
from gainstage.facts.run_info import RunInfo
from gainstage.integrations.sinks.csv_file import CSV
from gainstage.integrations.sinks.kind import SeriesSink, SinkKind
from gainstage.integrations.sinks.mlflow import MLFLOW
from gainstage.integrations.sinks.openmetrics import OPENMETRICS
from gainstage.integrations.sinks.tensorboard import TENSORBOARD
from gainstage.integrations.sinks.wandb import WANDB

_ALL = (CSV, TENSORBOARD, WANDB, MLFLOW, OPENMETRICS)
SINKS: dict[str, SinkKind] = {kind.name: kind for kind in _ALL}
"""By name."""


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
    name, _, path = text.partition(":")
    if name not in SINKS or not path:
        raise ConfigError(
            f"--sink must be KIND:PATH with a kind of {', '.join(SINKS)}; got {text!r}"
        )
    SINKS[name].check_installed()
    return SinkSpec(name, Path(path).absolute())


def open_sink(spec: SinkSpec, info: RunInfo) -> SeriesSink:
    """Return a sink that is ready to take numbers.

    Args:
        spec: Kind and place.
        info: What run.json says of the run.

    Raises:
        OSError: If its place cannot be written. The packages raise what they like besides.
    """
    return SINKS[spec.kind].open(spec.path, info)


__all__ = ["SINKS", "SeriesSink", "SinkKind", "SinkSpec", "open_sink", "parse_sink"]
