"""Evidence from the step at which loss and gradient leapt: did the data leap, or the model?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gainstage.diagnose.evidence.piece import Piece
from gainstage.facts.blocks import ProfileBlock
from gainstage.facts.record import RankRecord

_NEAR_INPUT = 2
"""Levels next to the input that are compared."""
_LEAPT_BITS = 3.0
_USUAL_BITS = 1.5


@dataclass(frozen=True, slots=True)
class InputLeapt:
    """Activations next to the input rose: the data leapt."""

    id: str = field(default="input-leapt", init=False)
    rose_bits: float
    step: int

    @property
    def text(self) -> str:
        """The sentence for people."""
        return f"activations next to the input rose {self.rose_bits:.1f} bits at step {self.step}"


@dataclass(frozen=True, slots=True)
class OnlyLossLeapt:
    """No activation rose, so that the target did."""

    id: str = field(default="only-the-loss-leapt", init=False)
    rose_bits: float
    step: int

    @property
    def text(self) -> str:
        """The sentence for people."""
        rose = max(self.rose_bits, 0)
        return f"no activation rose more than {rose:.1f} bits at step {self.step}: the target did"


@dataclass(frozen=True, slots=True)
class ModelLeapt:
    """Activations within the model rose, and those next to its input did not."""

    id: str
    """Another one where a residual stream carries them."""
    rose_bits: float
    input_rose_bits: float
    step: int

    @property
    def text(self) -> str:
        """The sentence for people."""
        return (
            f"at step {self.step} activations rose {self.rose_bits:.1f} bits within the model, "
            f"{self.input_rose_bits:+.1f} next to its input"
        )


def leap_evidence(record: RankRecord, step: int) -> Iterator[Piece]:
    """Yield evidence where the step of the leap was sampled."""
    profiles = record.profiles
    if not len(profiles):
        return
    earlier = profiles.step[profiles.step < step]
    if not len(earlier) or not (profiles.step == step).any():
        return
    before, now = _levels(record, int(earlier.max())), _levels(record, step)
    nodes = [node for node in now if node in before]
    if len(nodes) <= _NEAR_INPUT:
        return
    rose = np.array([now[node] - before[node] for node in nodes])
    first, most = float(rose[:_NEAR_INPUT].max()), float(rose.max())
    if first >= _LEAPT_BITS:
        yield InputLeapt(first, step)
    elif most < _USUAL_BITS:
        yield OnlyLossLeapt(most, step)
    elif most >= _LEAPT_BITS:
        name = "stream-leapt" if record.has_stream else "input-usual-at-the-leap"
        yield ModelLeapt(name, most, first, step)


def _levels(record: RankRecord, step: int) -> dict[int, float]:
    """Return the levels of a sampled step's activations within modules, in forward order."""
    profiles = record.profiles
    rows = np.flatnonzero(_of_first_call(profiles, step) & np.isfinite(profiles.forward_max_bits))
    rows = rows[np.argsort(profiles.node[rows])]
    found: dict[int, float] = {}
    for row in rows.tolist():
        number = int(profiles.site[row])
        site = record.sites[number] if 0 <= number < len(record.sites) else None
        if site is not None and site.module is not None and not site.keeps_values:
            found[int(profiles.node[row])] = float(profiles.forward_max_bits[row])
    return found


def _of_first_call(profiles: ProfileBlock, step: int) -> NDArray[np.bool_]:
    rows = profiles.step == step
    return rows & (profiles.backward == profiles.backward[rows].min())
