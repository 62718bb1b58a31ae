"""`gradient-imbalance`: one tensor is nearly the whole global norm, and so rules the clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gainstage.detect.kind.inputs import Chunk
from gainstage.detect.kind.symptom_kind import Detector, DocRow, Signal, Signals, SymptomKind
from gainstage.facts.blocks import StepBlock

_SHARE = 0.99
_APART_BITS = 10.0
_FEWEST_TENSORS = 6
_CHUNKS = 4
_CLIPPED = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientImbalanceEvidence:
    """The tensor that rules the norm, and how far the others are below it."""

    tensor: str
    share: float
    """Of the squared norm, 0 to 1: the median over 16 steps."""
    bits_apart: float
    """Bits that the median of the other tensors is below it."""
    share_clipped: float
    """Of the 16 steps, 0 to 1."""


def message(evidence: GradientImbalanceEvidence) -> str:
    """Return the sentence for people."""
    clipped = f", and the clip, active on {evidence.share_clipped:.0%} of steps,"
    rules = clipped if evidence.share_clipped >= _CLIPPED else ""
    return (
        f"{evidence.tensor} holds {evidence.share:.1%} of the squared norm{rules} while half of "
        f"the tensors are more than {evidence.bits_apart:.0f} bits below it"
    )


@dataclass(frozen=True, slots=True)
class Imbalance:
    """State: which tensor ruled, and in how many chunks of the record without a break."""

    tensor: int = -1
    chunks: int = 0


def update(state: Imbalance, chunk: Chunk) -> tuple[Imbalance, Signals]:
    """Return a signal once a tensor has held 99% of the squared norm for 64 steps."""
    ruling = _ruling(chunk.block)
    if ruling is None or ruling[0] >= len(chunk.tensors):
        return Imbalance(state.tensor), ()
    tensor, share, apart = ruling
    state = Imbalance(tensor, state.chunks + 1 if tensor == state.tensor else 1)
    if state.chunks < _CHUNKS or state.chunks % _CHUNKS:
        return state, ()
    step = int(chunk.block.step[-1])
    clipped = float((chunk.block.clip_coefficient < 1.0).mean())
    evidence = GradientImbalanceEvidence(
        tensor=chunk.tensors[tensor].name,
        share=share,
        bits_apart=apart,
        share_clipped=clipped,
    )
    signal = Signal(
        evidence=evidence,
        severity="warning" if clipped >= _CLIPPED else "info",
        step=step,
        last_step=step,
        count=_CHUNKS * len(chunk.block),
    )
    return state, (signal,)


def _ruling(block: StepBlock) -> tuple[int, float, float] | None:
    """Return the tensor that is nearly the whole norm, its share, and its distance in bits."""
    norms = np.where(block.present, block.grad_norms, 0.0).astype(np.float64)
    usable = norms[np.isfinite(norms).all(axis=1) & (norms > 0).any(axis=1)]
    if not len(usable) or (usable > 0).any(axis=0).sum() < _FEWEST_TENSORS:
        return None
    # Divided first: the squares of an exploding gradient overflow.
    usable = usable / usable.max(axis=1, keepdims=True)
    squares = usable**2 / (usable**2).sum(axis=1, keepdims=True)
    if (squares.max(axis=1) >= _SHARE).mean() < 0.5:  # then no median is, and none need be taken
        return None
    shares = np.median(squares, axis=0)
    top = int(shares.argmax())
    others = np.median(usable, axis=0)
    others = others[others > 0]
    apart = -float(np.log2(np.median(others))) if len(others) else 0.0
    share = float(shares[top])
    return None if share < _SHARE or apart < _APART_BITS else (top, share, apart)


KIND = SymptomKind(
    id="gradient-imbalance",
    evidence=(GradientImbalanceEvidence,),
    detectors=(Detector(family="gradient", start=Imbalance, chunks=update),),
    message=message,
    docs=(
        DocRow(
            "one tensor holds 99% of the squared norm for 64 steps, the median tensor is 10 bits "
            "below",
            "norms by tensor, clip",
            "share, bits",
            "note; warning while the clip acts on half of the steps",
        ),
    ),
)
