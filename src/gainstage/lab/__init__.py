"""The textbook of exploding gradients, computed anew each time by the rooms that watch real runs.

`from gainstage.lab import chain` gives the objects behind `gainstage lab chain`, for a notebook:
plain values, and a picture by `_repr_html_`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gainstage.lab.clipping import clip
    from gainstage.lab.failing_run import symptoms
    from gainstage.lab.initial_scale import init
    from gainstage.lab.linear_chain import chain
    from gainstage.lab.normalising import norm
    from gainstage.lab.questions import exercises
    from gainstage.lab.slopes import crossover
    from gainstage.lab.through_time import recurrent

__all__ = ["chain", "clip", "crossover", "exercises", "init", "norm", "recurrent", "symptoms"]

_HOME = {
    "chain": "linear_chain",
    "clip": "clipping",
    "crossover": "slopes",
    "exercises": "questions",
    "init": "initial_scale",
    "norm": "normalising",
    "recurrent": "through_time",
    "symptoms": "failing_run",
}


def __getattr__(name: str) -> Any:
    """Import a topic when it is asked for: it brings torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'gainstage.lab' has no attribute {name!r}")
    return getattr(import_module(f"gainstage.lab.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
