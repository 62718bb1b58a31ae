"""Which column of a foreign log is the loss, the gradient norm, the learning rate, the step."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from gainstage.errors import ConfigError

KNOWN: Final[Mapping[str, tuple[str, ...]]] = {
    "loss": ("loss", "total_loss", "batch_loss", "running_loss", "nll", "nll_loss", "objective"),
    "norm": (
        *("grad_norm", "gradient_norm", "global_grad_norm", "total_grad_norm", "grad_norm_total"),
        *("grad_2_0_norm_total", "grad_2_norm_total", "total_norm", "global_norm", "gnorm"),
        *("gradnorm", "grads_norm", "grad_l2_norm", "norm"),
    ),
    "lr": ("lr", "learning_rate", "lr_0", "lr_group_0", "lr_pg1", "lr_adam", "lr_adamw", "lr_sgd"),
    "step": (
        *("step", "global_step", "optimizer_step", "iteration", "iter", "itr", "n_iter", "batch"),
        *("update", "num_updates"),
    ),
    "time": ("time", "timestamp", "wall_time"),
}
"""By what is looked for, what columns are called, likely ones first: in small letters, with `_` for
every other sign, without `train` (or our own `gainstage`) before, `train` or `step` after."""
_OTHER_DATA = re.compile(r"(?:^|[^a-z])(?:eval|val|valid|validation|test|dev|epoch)(?:$|[^a-z])")
_TENSOR = re.compile(r"^(?:train[/_.])?grad(?:ient)?s?(?:_[\d.]+)?_norms?[/.](.+)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Names:
    """Columns of a log; None where there is none."""

    loss: str | None = None
    norm: str | None = None
    lr: str | None = None
    step: str | None = None
    time: str | None = None
    tensors: tuple[str, ...] = ()
    """Columns with the gradient norms of single tensors, such as `grad_norm/fc.weight`."""


def found_names(columns: Iterable[str], wanted: Names) -> Names:
    """Return the columns to use: those wanted, and for the rest the likeliest ones.

    Raises:
        ConfigError: If a wanted one is not there, or neither loss nor norm is found.
    """
    there = list(dict.fromkeys(columns))
    tensors = tuple(name for name in there if _TENSOR.match(name) and tensor_name(name))
    free = [name for name in there if name not in tensors]
    chosen: dict[str, str | None] = {}
    for what in KNOWN:
        asked = getattr(wanted, what)
        if asked is not None and asked not in there:
            raise ConfigError(f"no column {asked!r} for --{what}; there are {_listed(there)}")
        chosen[what] = asked or _likeliest(free, KNOWN[what])
    if chosen["loss"] is None and chosen["norm"] is None and not tensors:
        raise ConfigError(
            f"no column looks like a loss or a gradient norm; name one with --loss or --norm: "
            f"there are {_listed(there)}"
        )
    return Names(**chosen, tensors=tensors)


def tensor_name(column: str) -> str:
    """Return the tensor that a column such as `grad_2.0_norm/fc.weight` is of; '' for the total."""
    match = _TENSOR.match(column)
    name = match[1] if match else ""
    return "" if name.lower() in ("total", "global", "all", "train") else name


def _likeliest(columns: Iterable[str], known: tuple[str, ...]) -> str | None:
    ranked = [
        (known.index(plain), len(name), name)
        for name in columns
        if (plain := _normalised(name)) in known and not _OTHER_DATA.search(name.lower())
    ]
    return min(ranked)[2] if ranked else None


def _normalised(name: str) -> str:
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    plain = re.sub(r"^(?:training|train|gainstage)_|_(?:training|train)$", "", plain)
    return re.sub(r"(?<=loss)_step$|(?<=norm)_step$", "", plain)


def _listed(columns: list[str]) -> str:
    shown = ", ".join(map(repr, columns[:12]))
    return f"{shown} and {len(columns) - 12} more" if len(columns) > 12 else shown or "none"
