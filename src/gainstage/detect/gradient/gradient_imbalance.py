"""`gradient-imbalance`: one tensor is nearly the whole global norm, and so rules the clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gainstage.detect.series.sign import Sign
from gainstage.facts.blocks import StepBlock
from gainstage.facts.tensor import TensorInfo

_SHARE = 0.99
_APART_BITS = 10.0
_FEWEST_TENSORS = 6
_PIECES = 4
_CLIPPED = 0.5


@dataclass(slots=True)
class Imbalance:
    """Online state: which tensor ruled, and in how many pieces of the record without a break."""

    tensor: int = -1
    pieces: int = 0


def look(state: Imbalance, piece: StepBlock, tensors: Sequence[TensorInfo]) -> Sign | None:
    """Return a sign once a tensor has held 99% of the squared norm for 64 steps."""
    norms = np.where(piece.present, piece.grad_norms, 0.0).astype(np.float64)
    usable = norms[np.isfinite(norms).all(axis=1) & (norms > 0).any(axis=1)]
    if not len(usable) or (usable > 0).any(axis=0).sum() < _FEWEST_TENSORS:
        state.pieces = 0
        return None
    # Divided first: the squares of an exploding gradient overflow.
    usable = usable / usable.max(axis=1, keepdims=True)
    squares = usable**2 / (usable**2).sum(axis=1, keepdims=True)
    if (squares.max(axis=1) >= _SHARE).mean() < 0.5:  # then no median is, and none need be taken
        state.pieces = 0
        return None
    shares = np.median(squares, axis=0)
    top = int(shares.argmax())
    others = np.median(usable, axis=0)
    others = others[others > 0]
    apart = -float(np.log2(np.median(others))) if len(others) else 0.0
    if shares[top] < _SHARE or apart < _APART_BITS or top >= len(tensors):
        state.pieces = 0
        return None
    state.pieces = state.pieces + 1 if top == state.tensor else 1
    state.tensor = top
    if state.pieces < _PIECES or state.pieces % _PIECES:
        return None
    step = int(piece.step[-1])
    clipped = float((piece.clip_coefficient < 1.0).mean())
    rules = f", and the clip, active on {clipped:.0%} of steps," if clipped >= _CLIPPED else ""
    return Sign(
        "gradient-imbalance",
        "gradient",
        "warning" if clipped >= _CLIPPED else "info",
        step,
        f"{tensors[top].name} holds {shares[top]:.1%} of the squared norm{rules} while half of the "
        f"tensors are more than {apart:.0f} bits below it",
        last_step=step,
        count=_PIECES * len(piece),
        evidence={
            "tensor": tensors[top].name,
            "share": float(shares[top]),
            "bits_apart": apart,
            "share_clipped": clipped,
        },
    )
