"""Evidence from the step at which loss and gradient leapt: did the data leap, or the model?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gainstage.facts.blocks import ProfileBlock
from gainstage.facts.record import RankRecord

_MOVES = {"t", "transpose", "permute", "view", "reshape", "expand", "unsqueeze", "squeeze"}
_NEAR_INPUT = 2
"""Levels next to the input that are compared."""
_LEAPT_BITS = 3.0
_USUAL_BITS = 1.5


def leap_evidence(record: RankRecord, step: int) -> Iterator[tuple[str, str]]:
    """Yield rows of the evidence table, with words, where the step of the leap was sampled."""
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
        yield "input-leapt", f"activations next to the input rose {first:.1f} bits at step {step}"
    elif most < _USUAL_BITS:
        yield (
            "only-the-loss-leapt",
            f"no activation rose more than {max(most, 0):.1f} bits at step {step}: the target did",
        )
    elif most >= _LEAPT_BITS:
        yield (
            "stream-leapt" if record.has_stream else "input-usual-at-the-leap",
            f"at step {step} activations rose {most:.1f} bits within the model, {first:+.1f} next "
            "to its input",
        )


def _levels(record: RankRecord, step: int) -> dict[int, float]:
    """Return the levels of a sampled step's activations within modules, in forward order."""
    profiles = record.profiles
    rows = np.flatnonzero(_of_first_call(profiles, step) & np.isfinite(profiles.forward_max_bits))
    rows = rows[np.argsort(profiles.node[rows])]
    found: dict[int, float] = {}
    for row in rows.tolist():
        number = int(profiles.site[row])
        site = record.sites[number] if 0 <= number < len(record.sites) else None
        if site is not None and site.module is not None and site.op not in _MOVES:
            found[int(profiles.node[row])] = float(profiles.forward_max_bits[row])
    return found


def _of_first_call(profiles: ProfileBlock, step: int) -> NDArray[np.bool_]:
    rows = profiles.step == step
    return rows & (profiles.backward == profiles.backward[rows].min())
