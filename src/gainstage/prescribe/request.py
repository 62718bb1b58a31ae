"""What a user asks of `prescribe`: a script, its arguments, and how many trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gainstage.errors import ConfigError
from gainstage.facts.prescription import Trial
from gainstage.prescribe.executor import Executor


@dataclass(frozen=True, kw_only=True, slots=True)
class PrescribeRequest:
    """What to prescribe for."""

    target: str
    """The script's path; a module's name where `is_module`."""
    path: Path
    """The file that runs."""
    arguments: tuple[str, ...] = ()
    is_module: bool = False
    trials: int = 12
    """At most, the confirmation among them; the baseline is not."""
    executor: Executor | None = None
    """None for processes of this machine."""
    workers: int | None = None
    """Trials at once; None for what the machine has room for."""
    on_change: Callable[[Sequence[Trial]], None] = lambda _: None
    """Is given baseline and trials whenever one of them has changed."""

    def __post_init__(self) -> None:
        """Check the number of trials."""
        if self.trials < 1:
            raise ConfigError(f"--trials must be at least 1, got {self.trials}")

    @property
    def runs_changed_text(self) -> bool:
        """Whether a changed text of the script can run in its place."""
        return not self.is_module
