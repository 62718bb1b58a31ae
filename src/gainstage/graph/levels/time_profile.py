"""How a recurrence's states and deltas grow or fade from step to step."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gainstage.analysis.gain import memory_horizon, slope_bits, stages_to_overflow
from gainstage.graph.levels.fused_rnn import DirectionLevels
from gainstage.graph.levels.operands import GraphNode
from gainstage.graph.levels.recurrence import Recurrence


@dataclass(frozen=True, slots=True)
class TimeProfile:
    """One state of one recurrence, its steps in the order in which they were computed."""

    site: Hashable
    module: str | None
    kind: Literal["time", "depth"]
    """`depth` for a block that was applied again and again without an input of its own."""
    state: Literal["hidden", "cell"]
    """`cell` for what crosses beside the hidden state, such as an LSTM's memory."""
    layer: int
    """Within a fused node; 0 otherwise."""
    reverse: bool
    """Whether step 0 is the sequence's end: known of fused layers only."""
    time_steps: int
    hidden_bits: NDArray[np.float64]
    """Shape (time_steps,): level of the state; NaN where it is not known."""
    delta_bits: NDArray[np.float64]
    """Level of the loss's gradient with respect to the state."""
    slope_bits: float
    """Bits per step; positive if the gradient grows as it travels back."""
    steps_to_overflow: dict[str, float]
    """By dtype: further steps that the gradient may travel; inf if it does not grow."""
    memory_horizon: float
    """Steps until the gain has fallen by 24 bits; inf if it does not fall."""


def time_profiles(
    recurrences: Sequence[Recurrence],
    nodes: Sequence[GraphNode],
    forward_bits: ArrayLike,
    delta_bits: ArrayLike,
) -> list[TimeProfile]:
    """Return the profiles of all states of the recurrences of a graph.

    Args:
        recurrences: From `find_recurrences` of a graph of the same shape.
        nodes: The nodes it was given.
        forward_bits: By node, the level of its (first) output; NaN where it is not known.
        delta_bits: By node, the level of the gradient that arrived at that output.
    """
    forward, delta = np.asarray(forward_bits, np.float64), np.asarray(delta_bits, np.float64)
    found: list[TimeProfile] = []
    for each in recurrences:
        for index, states in enumerate((each.states, *each.carried)):
            at = list(states)
            node = nodes[at[-1]]
            found.append(
                profile_of(
                    forward[at],
                    delta[at],
                    site=node.site,
                    module=node.module,
                    kind=each.kind,
                    state="cell" if index else "hidden",
                )
            )
    return found


def fused_profiles(
    directions: Sequence[DirectionLevels], *, site: Hashable, module: str | None
) -> list[TimeProfile]:
    """Return the profiles of a fused node's layers and directions."""
    found: list[TimeProfile] = []
    for each in directions:
        levels = [(each.hidden_bits, each.delta_bits)]
        if each.cell_bits is not None and each.cell_delta_bits is not None:
            levels.append((each.cell_bits, each.cell_delta_bits))
        found.extend(
            profile_of(
                hidden,
                delta,
                site=site,
                module=module,
                state="cell" if index else "hidden",
                layer=each.layer,
                reverse=each.reverse,
            )
            for index, (hidden, delta) in enumerate(levels)
        )
    return found


def profile_of(
    hidden_bits: NDArray[np.float64],
    delta_bits: NDArray[np.float64],
    *,
    site: Hashable,
    module: str | None = None,
    kind: Literal["time", "depth"] = "time",
    state: Literal["hidden", "cell"] = "hidden",
    layer: int = 0,
    reverse: bool = False,
) -> TimeProfile:
    """Return the profile of one state from its levels in the order of computation."""
    # Computed forward, travelled backward: the slope changes its sign.
    slope = 0.0 - slope_bits(delta_bits)
    known = delta_bits[~np.isnan(delta_bits)]
    return TimeProfile(
        site=site,
        module=module,
        kind=kind,
        state=state,
        layer=layer,
        reverse=reverse,
        time_steps=len(delta_bits),
        hidden_bits=hidden_bits,
        delta_bits=delta_bits,
        slope_bits=slope,
        steps_to_overflow=stages_to_overflow(float(known.max()) if len(known) else np.nan, slope),
        memory_horizon=memory_horizon(slope),
    )
