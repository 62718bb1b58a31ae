"""Ray Train: `TorchTrainer(watched(train_loop))` makes each worker a rank of one run."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

from gainstage.integrations.fit import FitWatch


def watched(
    train_loop: Callable[..., Any],
    *,
    out: str | os.PathLike[str] | None = None,
    treat: str | Sequence[str] = (),
    guard: str = "off",
    budget: float = 0.01,
) -> Callable[..., Any]:
    """Return a `train_loop_per_worker` that is watched on every worker, into one run.

    The run's folder is made here, by the driver, at once. Workers on other machines must see the
    same path, so name a shared one with `out`; where one does not, it says so and trains unwatched.

    Args:
        train_loop: As Ray Train takes it: a function of nothing, or of the configuration.
        out: The run's folder; `gainstage-runs/<time>-<script>` where not given.
        treat: Treatments, as `gainstage.watch` takes them.
        guard: What to do about gradients that are not finite.
        budget: Share of the training time that sampled reads may take.

    Raises:
        ConfigError: If a treatment or guard cannot be.
        RunFolderError: If the folder cannot be made.

    Example:
        >>> TorchTrainer(watched(train_loop), scaling_config=config).fit()  # doctest: +SKIP
    """
    made = FitWatch("watched", out=out, treat=treat, guard=guard, budget=budget)
    folder = made.made_folder()

    # Ray asks the signature whether to hand the configuration over; `wraps` answers for the loop.
    @functools.wraps(train_loop)
    def watched_loop(*config: Any) -> Any:
        watch = FitWatch("watched", treat=treat, guard=guard, budget=budget)
        watch.join(folder)
        try:
            return train_loop(*config)
        finally:
            watch.end()

    return watched_loop
