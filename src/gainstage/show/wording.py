"""Words for the ids of the findings, and short forms of what stands in them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gainstage.diagnose.causes import CAUSE
from gainstage.facts.diagnosis import BY_HAND, Remedy
from gainstage.facts.run_info import RunInfo


def cause_words(cause: str) -> str:
    """Return a cause in plain words; an id that is not known stands for itself."""
    kind = CAUSE.get(cause)
    return cause if kind is None else kind.words


def treat_text(remedy: Remedy) -> str | None:
    """Return a remedy as `--treat` takes it, None for one that only a change of the code can be.

    Example:
        >>> treat_text(Remedy("clip-global-norm", {"max_norm": 0.81234}))
        'clip-global-norm:max_norm=0.812'
    """
    if remedy.remedy in BY_HAND:
        return None
    pairs = ",".join(f"{key}={_value(value)}" for key, value in remedy.settings.items())
    return f"{remedy.remedy}:{pairs}" if pairs else remedy.remedy


def samples_text(samples: Sequence[int], in_all: int | None = None) -> str:
    """Return positions in a batch in words.

    Args:
        samples: Some of them.
        in_all: How many there are; those given unless told.

    Example:
        >>> samples_text([3]), samples_text([3, 5, 6], in_all=6)
        ('sample 3', 'samples 3, 5, 6 and 3 more')
    """
    said = ", ".join(str(each) for each in samples)
    more = (in_all or len(samples)) - len(samples)
    return f"sample{'' if len(samples) == 1 else 's'} {said}" + (f" and {more} more" * (more > 0))


def near_path(file: str, info: RunInfo) -> str:
    """Return a path relative to here, to where the run ran, or to its script; else as it is."""
    cwd = info.cwd or os.curdir
    argv = list(info.argv or ())
    bases = [Path.cwd(), Path(cwd)]
    if argv:
        bases.append((Path(cwd) / argv[0]).parent)
    for base in bases:
        if Path(file).is_relative_to(base):
            return str(Path(file).relative_to(base))
    return file


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
