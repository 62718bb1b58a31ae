"""Lightning: `Trainer(callbacks=[GainstageCallback()])` watches each fit as `gainstage run` would.

Works with `pytorch_lightning` and with `lightning.pytorch`, whichever the script imports.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from gainstage.integrations.fit import FitCallback

_NAMES = ("pytorch_lightning", "lightning.pytorch")


def callback_bases() -> tuple[Any, ...]:
    """Return the class Callback of each Lightning that was imported; of neither, of one installed.

    Raises:
        ImportError: If there is none.
    """
    imported = [sys.modules[name] for name in _NAMES if name in sys.modules]
    for name in () if imported else _NAMES:
        try:
            imported = [import_module(name)]
        except ModuleNotFoundError:
            continue
        break
    if not imported:
        raise ImportError(
            "GainstageCallback needs Lightning: pip install 'gainstage[integrations]'"
        )
    return tuple(dict.fromkeys(each.Callback for each in imported))


class GainstageCallback(FitCallback, *callback_bases()):  # pyright: ignore
    """Watches each fit into a run of its own, and prints the summary as it ends.

    Neither clips nor logs: norms are read where Lightning's own clipping reads them. Under
    `gainstage run`, or within `gainstage.watch`, it says that it adds nothing.

    Example:
        >>> Trainer(callbacks=[GainstageCallback()]).fit(module)  # doctest: +SKIP
    """

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin to watch; by now the optimizers are made and all processes are there."""
        self._fit.begin(pl_module, trainer.optimizers)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Detach from a fit that an error ends, of which Lightning tells no callback else."""
        self._fit.end()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Detach as the fit ends."""
        if stage == "fit":
            self._fit.end()
