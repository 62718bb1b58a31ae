"""Accelerate: `Accelerator(log_with=GainstageTracker())` watches while trackers are on.

Accelerate starts trackers in its main process only: of several, that one is watched. Gradients
that data parallelism has averaged are the same in all; `gainstage run` watches each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gainstage.integrations.fit import FitCallback

try:
    from accelerate.tracking import GeneralTracker
except ModuleNotFoundError as error:
    raise ImportError(
        "GainstageTracker needs Accelerate: pip install 'gainstage[integrations]'"
    ) from error

if TYPE_CHECKING:
    from gainstage.attach.watch import Watch


class GainstageTracker(FitCallback, GeneralTracker):
    """Watches from `Accelerator.init_trackers` to `end_training`, and prints the summary then.

    What the script gives to `Accelerator.log` is left to other trackers: norms, loss and learning
    rate are read in torch. Under `gainstage run`, or within `gainstage.watch`, it says that it adds
    nothing.

    Example:
        >>> accelerator = Accelerator(log_with=GainstageTracker())  # doctest: +SKIP
        >>> accelerator.init_trackers("project")  # doctest: +SKIP
    """

    name = "gainstage"
    requires_logging_directory = False

    @property
    def tracker(self) -> Watch | None:
        """The watch of the training in progress, or of the last one; None before the first."""
        return self._fit.watch

    def start(self) -> None:
        """Begin to watch."""
        self._fit.begin(all_ranks=False)

    def store_init_configuration(self, values: Any) -> None:
        """Leave the script's settings to other trackers."""

    def log(self, values: Any, step: int | None = None, **kwargs: Any) -> None:
        """Leave the script's own values to other trackers."""

    def finish(self) -> None:
        """Detach as the training ends."""
        self._fit.end()
