"""Reading what autograd's fused recurrent nodes save, whatever their kind, in one layout.

Which layers are a single node (torch 2.13): `nn.LSTM` on the CPU in float32 and bfloat16, unpacked
and without projection (one `MkldnnRnnLayerBackward0` a layer and direction); every recurrent layer
on CUDA with cuDNN (one `CudnnRnnBackward0` for all layers). All else is made of small nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from gainstage.analysis.rnn_cells import CellKind, CellWeights, State
from gainstage.graph.operations.table import operation_of

_KINDS: Final[tuple[CellKind, ...]] = ("rnn_relu", "rnn_tanh", "lstm", "gru")
"""By the number that nodes save as `mode`."""
_UNREADABLE: Final = {
    "miopen": "the layout of MIOpen's fused layer was never checked",
    "mps": "Metal's fused LSTM keeps its states in a layout of its own",
}
"""By the layout of a kind of operation: why it cannot be read."""


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A fused node whose inside cannot be told."""

    why: str


@dataclass(frozen=True, slots=True)
class SavedLayers:
    """What a fused node saved. Half precision is widened to float32."""

    cells: list[list[CellWeights]]
    """By layer, then direction."""
    reverse: tuple[bool, ...]
    """By direction: whether it runs from the sequence's end to its start."""
    inputs: list[Tensor]
    """One of shape (batch, inputs) a position in the sequence."""
    outputs: list[Tensor]
    """Likewise, of the last layer, its directions side by side."""
    initial: State
    """Each of shape (layers * directions, batch, size)."""
    batch_sizes: tuple[int, ...]
    """By position, for a packed sequence; else empty."""
    batch_first: bool


def read_fused(node: Any) -> SavedLayers | Unsupported:
    """Return what a fused recurrent node saved, or why that cannot be read.

    Call it before the graph is freed and before the optimizer changes the weights.
    """
    match operation_of(node).fused_recurrent:
        case "mkldnn":
            return _read_mkldnn(node)
        case "cudnn":
            return _read_cudnn(node)
        case None:
            return Unsupported(f"{node.name()} is not a fused recurrent layer")
        case layout:
            return Unsupported(_UNREADABLE[layout])


def by_position(
    tensor: Tensor, batch_sizes: Sequence[int], batch_first: bool = False
) -> list[Tensor]:
    """Return one tensor of shape (batch, features) a position in the sequence."""
    if batch_sizes:
        return list(tensor.split(list(batch_sizes)))
    return list(tensor.unbind(1 if batch_first else 0))


def wide(tensor: Tensor) -> Tensor:
    """Return the tensor without its graph, in float32 unless it is float64."""
    values = tensor.detach()
    return values if values.dtype == torch.float64 else values.float()


def _read_mkldnn(node: Any) -> SavedLayers | Unsupported:
    if _KINDS[node._saved_mode] != "lstm" or node._saved_batch_sizes:
        return Unsupported("oneDNN's fused layer was checked for unpacked LSTMs only")
    # Without biases the node repeats the weights in their places.
    names = ("weight0", "weight1", "weight2", "weight3")[: 4 if node._saved_has_biases else 2]
    weights = [wide(getattr(node, f"_saved_{name}")) for name in names]
    # Its `batch_first` is what the module was asked for: the tensors are time-major already.
    return SavedLayers(
        cells=[[CellWeights("lstm", *weights)]],
        reverse=(node._saved_reverse,),
        inputs=by_position(wide(node._saved_input), ()),
        outputs=by_position(wide(node._saved_result0), ()),
        initial=tuple(wide(state).unsqueeze(0) for state in (node._saved_hx_, node._saved_cx_)),
        batch_sizes=(),
        batch_first=False,
    )


def _read_cudnn(node: Any) -> SavedLayers | Unsupported:
    layers = node._saved_num_layers
    if layers > 1 and node._saved_train and node._saved_dropout > 0:
        return Unsupported(
            "dropout between fused layers: its masks lie in cuDNN's own memory; "
            "separate layers with nn.Dropout between them can be read"
        )
    kind = _KINDS[node._saved_mode]
    weights = [wide(weight) for weight in node._saved_weight]
    stride = node._saved_weight_stride0
    projected = node._saved_proj_size > 0
    cells = [
        _cudnn_weights(kind, weights[start : start + stride], projected)
        for start in range(0, len(weights), stride)
    ]
    reverse = (False, True) if node._saved_bidirectional else (False,)
    states = (node._saved_hx, node._saved_cx) if kind == "lstm" else (node._saved_hx,)
    batch_sizes = tuple(node._saved_batch_sizes)
    return SavedLayers(
        cells=[cells[at : at + len(reverse)] for at in range(0, len(cells), len(reverse))],
        reverse=reverse,
        inputs=by_position(wide(node._saved_input), batch_sizes, node._saved_batch_first),
        outputs=by_position(wide(node._saved_result0), batch_sizes, node._saved_batch_first),
        initial=tuple(wide(state) for state in states),
        batch_sizes=batch_sizes,
        batch_first=node._saved_batch_first,
    )


def _cudnn_weights(kind: CellKind, parts: list[Tensor], projected: bool) -> CellWeights:
    """Return one direction's weights: w_ih, w_hh, perhaps both biases, perhaps w_hr."""
    w_hr = parts[-1] if projected else None
    b_ih, b_hh = parts[2:4] if len(parts) >= 4 else (None, None)
    return CellWeights(kind, parts[0], parts[1], b_ih, b_hh, w_hr)
