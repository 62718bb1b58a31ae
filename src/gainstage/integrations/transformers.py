"""Transformers: `Trainer(callbacks=[GainstageCallback()])` watches each call of `train`.

The Trainer clips by Accelerate, which calls torch: norms are read there, before the clip.
"""

from __future__ import annotations

from typing import Any

from gainstage.integrations.fit import FitCallback

try:
    from transformers import TrainerCallback
except ModuleNotFoundError as error:
    raise ImportError(
        "GainstageCallback needs Transformers: pip install 'gainstage[integrations]'"
    ) from error


class GainstageCallback(FitCallback, TrainerCallback):
    """Watches each call of `Trainer.train` into a run of its own; prints the summary as it ends.

    Neither clips nor logs. Under `gainstage run`, or within `gainstage.watch`, it says that it adds
    nothing. The Trainer reports no error to callbacks: after one, watching continues until the next
    `train` or the end of the process.

    Example:
        >>> Trainer(model, args, callbacks=[GainstageCallback()]).train()  # doctest: +SKIP
    """

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin to watch; by now the optimizer is made and all processes are there."""
        optimizer = kwargs.get("optimizer")
        # Accelerate's wrapper is an optimizer too, but never steps itself.
        self._fit.begin(kwargs.get("model"), getattr(optimizer, "optimizer", optimizer))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Detach as the training ends."""
        self._fit.end()
