"""What a sink is, and what a kind of sink declares about itself, once: beside its class."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from gainstage.errors import ConfigError
from gainstage.facts.run_info import RunInfo
from gainstage.facts.symptom import Symptom
from gainstage.store.series import SeriesBlock


class SeriesSink(Protocol):
    """What takes the numbers of a run. Any method may raise: the sink is dropped then."""

    def write(self, block: SeriesBlock, symptoms: Sequence[Symptom] = ()) -> None:
        """Take the next steps, and the symptoms that they have brought or changed."""
        ...

    def close(self) -> None:
        """Finish what was begun. A second call does nothing."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class SinkKind:
    """A kind of sink: its name, what it needs, where it writes, and what opens it."""

    name: str
    """As `--sink NAME:PATH` and `--to NAME` take it."""
    title: str
    """What people call it."""
    open: Callable[[Path, RunInfo], SeriesSink]
    """Opens a sink at a place. Imports its package only then."""
    place: Literal["file", "folder"]
    """What the path names."""
    default: str
    """Where an export goes within the run's folder."""
    subfolder: str = ""
    """Which the package makes itself, below the path."""
    package: str = ""
    """What must be installed."""
    extra: str = ""
    """The extra of gainstage that installs it."""
    keeps: Literal["every step", "the newest step"] = "every step"
    loses: str
    """What its format cannot hold, for the docs."""

    def check_installed(self) -> None:
        """Make sure that the package is there, without importing it.

        Raises:
            ConfigError: If it is not; the message names the extra that installs it.
        """
        if self.package and importlib.util.find_spec(self.package) is None:
            raise ConfigError(
                f"{self.name} needs the package {self.package}: "
                f"pip install 'gainstage[{self.extra}]'"
            )
