"""`depth-gain`: deltas grow layer by layer on their way back, or activations on their way forward.

The slope is Theil-Sen's over the layers of one sampled graph, in bits a layer. A layer is a node
into which a weight matrix enters; a weight that is used many times, as in a recurrence, counts
once, with its median.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gainstage.bits import theil_sen
from gainstage.detect.kind.symptom_kind import Detector, DocRow, Signal, Signals, SymptomKind
from gainstage.facts.blocks import ProfileBlock

FEWEST_LAYERS = 4
NOTABLE_SLOPE_BITS = 0.3
NOTABLE_TOTAL_BITS = 8.0
"""Over all layers: 256-fold."""
STRONG_TOTAL_BITS = 16.0


@dataclass(frozen=True, slots=True)
class DepthGain:
    """Growth through the layers of one sampled graph."""

    layers: int
    backward_bits: float
    """Bits a layer that deltas gain on the way back; NaN if unknown."""
    forward_bits: float
    """Bits a layer that activations gain on the way forward; NaN if unknown."""
    headroom_bits: float
    """The smallest of the layers."""

    @property
    def steepest_bits(self) -> float:
        """The larger of both slopes."""
        return float(np.fmax(self.backward_bits, self.forward_bits))

    @property
    def total_bits(self) -> float:
        """What the steeper slope makes of all layers."""
        return self.steepest_bits * (self.layers - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthGainEvidence:
    """Growth through the layers of one sampled graph."""

    backward_bits_per_layer: float | None
    """Bits a layer that deltas gain on the way back; None where it is not known."""
    forward_bits_per_layer: float | None
    """Bits a layer that activations gain on the way forward; None where it is not known."""
    layers: int
    layers_to_overflow: float | None
    """Layers more until the dtype overflows; None where its headroom is not known."""
    at_step: int


def message(evidence: DepthGainEvidence) -> str:
    """Return the sentence for people."""
    backward, forward = evidence.backward_bits_per_layer, evidence.forward_bits_per_layer
    is_forward = backward is None or (forward is not None and forward > backward)
    way, slope = ("activations", forward) if is_forward else ("deltas", backward)
    left = evidence.layers_to_overflow
    more = "" if left is None else f"; {max(left, 0):.0f} layers more would overflow"
    return (
        f"{way} grow {slope or 0:.2f} bits a layer over {evidence.layers} layers at step "
        f"{evidence.at_step}{more}"
    )


@dataclass(frozen=True, slots=True)
class Depth:
    """State: the largest total growth reported so far."""

    reported_bits: float = 0.0


def update(state: Depth, block: ProfileBlock) -> tuple[Depth, Signals]:
    """Return a signal if the layers of a sampled graph multiply, and more than was reported."""
    gain = depth_gain(block)
    if gain is None or not gain.total_bits >= NOTABLE_TOTAL_BITS:
        return state, ()
    slope = gain.steepest_bits
    if not slope >= NOTABLE_SLOPE_BITS or gain.total_bits < state.reported_bits + 1.0:
        return state, ()
    step = int(block.step[0])
    evidence = DepthGainEvidence(
        backward_bits_per_layer=_known(gain.backward_bits),
        forward_bits_per_layer=_known(gain.forward_bits),
        layers=gain.layers,
        layers_to_overflow=_known(gain.headroom_bits / slope),
        at_step=step,
    )
    signal = Signal(
        evidence=evidence,
        severity="warning",
        step=step,
        last_step=step,
        is_strong=gain.total_bits >= STRONG_TOTAL_BITS,
    )
    return Depth(gain.total_bits), (signal,)


def depth_gain(block: ProfileBlock) -> DepthGain | None:
    """Return the growth through the layers of one graph; None where there are fewer than four."""
    rows = block.weight >= 0
    weights = block.weight[rows]
    order = list(dict.fromkeys(weights.tolist()))
    if len(order) < FEWEST_LAYERS:
        return None
    backward = [_middle(block.delta_bits[rows][weights == each]) for each in order]
    forward = [_middle(block.forward_bits[rows][weights == each]) for each in order]
    headroom = block.headroom_bits[rows]
    return DepthGain(
        len(order), -_slope(backward), _slope(forward), float(np.min(headroom, initial=np.inf))
    )


def first_graph(block: ProfileBlock) -> ProfileBlock:
    """Return the rows of the first backward call that was sampled."""
    if not len(block):
        return block
    mask = (block.step == block.step[0]) & (block.backward == block.backward[0])
    return rows_of(block, mask)


def rows_of(block: ProfileBlock, mask: NDArray[np.bool_]) -> ProfileBlock:
    """Return some rows of a block."""
    return ProfileBlock(*[getattr(block, name)[mask] for name in ProfileBlock.__slots__])


def _middle(values: NDArray[np.float32]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else np.nan


def _slope(values: list[float]) -> float:
    known = np.isfinite(values)
    if known.sum() < FEWEST_LAYERS:
        return np.nan
    return theil_sen(np.flatnonzero(known), np.asarray(values)[known])


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None


KIND = SymptomKind(
    id="depth-gain",
    evidence=(DepthGainEvidence,),
    detectors=(Detector(family="depth", start=Depth, profiles=update),),
    message=message,
    docs=(
        DocRow(
            "Theil–Sen slope of the deltas' level over the layers on the way back, or of the "
            "activations' on the way forward: 0.3 bits a layer and 8 bits in all",
            "sampled graphs",
            "bits a layer",
            "warning, strong at 16 bits in all",
            "fewer than four layers",
        ),
    ),
)
