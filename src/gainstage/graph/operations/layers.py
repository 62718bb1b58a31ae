"""Layers that torch computes as one operation."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gainstage.graph.operations.operation import Domain, Operands, OperationKind


def _convolution(a: Operands) -> Tensor:
    settings = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")
    return torch.ops.aten.convolution(
        a["input"], a["weight"], a["bias"], *(_list(a[name]) for name in settings)
    )


def _list(setting: Any) -> Any:
    return list(setting) if isinstance(setting, tuple) else setting


def _layer_norm(a: Operands) -> Any:
    x: Tensor = a["input"]
    dims = tuple(range(-len(a["normalized_shape"]), 0))
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    # eps is not saved, but the reciprocal deviation that it went into is.
    scaled = (wide - wide.mean(dims, keepdim=True)) * a["result2"]
    return _affine(scaled, a).to(a["dtype"])


def _affine(x: Tensor, a: Operands) -> Tensor:
    if a["weight"] is not None:
        x = x * a["weight"]
    return x if a["bias"] is None else x + a["bias"]


def _constant_rows(a: Operands) -> Tensor:
    x: Tensor = a["input"]
    dims = tuple(range(-len(a["normalized_shape"]), 0))
    return x.amax(dims, keepdim=True) == x.amin(dims, keepdim=True)


def _batch_norm(a: Operands) -> Tensor:
    moving = (None, None) if a["training"] else (a["running_mean"], a["running_var"])
    return F.batch_norm(a["input"], *moving, a["weight"], a["bias"], a["training"], 0.0, a["eps"])


def _group_norm(a: Operands) -> Tensor:
    return F.group_norm(a["input"], a["group"], a["weight"], a["bias"], a["eps"])


def _attention(a: Operands) -> Any:
    if a["dropout_p"]:
        raise ValueError("attention with dropout is not computed again: it would draw numbers")
    return F.scaled_dot_product_attention(
        a["query"], a["key"], a["value"], a["attn_mask"], 0.0, a["is_causal"], scale=a["scale"]
    )


def _masked_out(a: Operands) -> Tensor:
    given = a["attn_mask"]
    if given is None:
        return torch.tensor(False)
    lowest = ~given if given.dtype == torch.bool else torch.isneginf(given)
    return lowest.all(-1, keepdim=True)


def attention(result: str) -> OperationKind:
    """Return a fused scaled dot product attention; `result` names its mask."""
    return OperationKind(
        op="scaled_dot_product_attention",
        edges=("query", "key", "value", result),
        forward=_attention if result == "attn_mask" else None,
        settings=("dropout_p", "is_causal", "scale"),
        domain=(Domain("attention with every key masked", _masked_out),)
        if result == "attn_mask"
        else (),
        hazard="masked-row",
        takes_masks=True,
    )


NORMS = ("input", "weight", "bias")

LAYERS = {
    "ConvolutionBackward0": OperationKind(
        op="convolution",
        edges=NORMS,
        forward=_convolution,
        settings=("stride", "padding", "dilation", "transposed", "output_padding", "groups"),
        factors=("weight",),
        bias="bias",
        convolves=True,
        takes_data=True,
    ),
    "NativeLayerNormBackward0": OperationKind(
        op="layer_norm",
        edges=NORMS,
        forward=_layer_norm,
        data=("result2",),
        settings=("normalized_shape",),
        domain=(Domain("0/0: layer_norm of equal values without eps", _constant_rows),),
        normalizes=True,
        before_activation=True,
        takes_data=True,
    ),
    "NativeBatchNormBackward0": OperationKind(
        op="batch_norm",
        edges=NORMS,
        forward=_batch_norm,
        data=("running_mean", "running_var"),
        settings=("training", "eps"),
        batch_statistics=True,
        normalizes=True,
        before_activation=True,
        takes_data=True,
    ),
    "NativeGroupNormBackward0": OperationKind(
        op="group_norm",
        edges=NORMS,
        forward=_group_norm,
        settings=("group", "eps"),
        normalizes=True,
        before_activation=True,
        takes_data=True,
    ),
    "FusedRmsNormBackward0": OperationKind(
        op="rms_norm", edges=("input", "weight"), normalizes=True, before_activation=True
    ),
    "NativeDropoutBackward0": OperationKind(
        op="dropout",
        forward=lambda a: a["self"] * a["result1"] / (1 - a["p"]),
        data=("result1",),
        settings=("p",),
        makes="inf",
        is_dropout=True,
        before_activation=True,
    ),
    "ScaledDotProductFlashAttentionForCpuBackward0": attention("attn_mask"),
    "ScaledDotProductFlashAttentionBackward0": attention("unused_mask"),
    "ScaledDotProductEfficientAttentionBackward0": attention("attn_bias"),
    "ScaledDotProductCudnnAttentionBackward0": attention("attn_bias"),
    "AvgPool2DBackward0": OperationKind(op="avg_pool2d", makes="inf", before_activation=True),
    "AdaptiveAvgPool2DBackward0": OperationKind(
        op="adaptive_avg_pool2d", makes="inf", before_activation=True
    ),
    "MaxPool2DWithIndicesBackward0": OperationKind(
        op="max_pool2d", makes="", before_activation=True
    ),
    "ThnnFusedLstmCellBackward0": OperationKind(
        op="lstm_cell", edges=("input_gates", "hidden_gates", "cx", "input_bias", "hidden_bias")
    ),
    "ThnnFusedGruCellBackward0": OperationKind(
        op="gru_cell", edges=("input_gates", "hidden_gates", "hx", "input_bias", "hidden_bias")
    ),
    "MkldnnRnnLayerBackward0": OperationKind(
        op="lstm",
        edges=("input", "weight0", "weight1", "weight2", "weight3", "hx_", "cx_"),
        settings=("mode",),
        fused_recurrent="mkldnn",
        takes_data=True,
    ),
    "CudnnRnnBackward0": OperationKind(
        op="rnn", edges=("input",), settings=("mode",), fused_recurrent="cudnn", takes_data=True
    ),
    "MiopenRnnBackward0": OperationKind(op="miopen_rnn", edges=(), fused_recurrent="miopen"),
    "LstmMpsBackward0": OperationKind(op="lstm_mps", edges=(), fused_recurrent="mps"),
    **{
        f"{name}BatchNormBackward0": OperationKind(
            op=f"{name.lower()}_batch_norm",
            edges=(),
            normalizes=True,
            batch_statistics=True,
            before_activation=True,
        )
        for name in ("Cudnn", "Miopen")
    },
    "WeightNormInterfaceBackward0": OperationKind(
        op="weight_norm_interface", edges=(), normalizes=True
    ),
    **{
        f"{name}Backward0": OperationKind(op=op, edges=(), before_activation=True)
        for name, op in [
            ("MaxPool3DWithIndices", "max_pool3d_with_indices"),
            ("AvgPool3D", "avg_pool3d"),
            ("AdaptiveAvgPool3D", "adaptive_avg_pool3d"),
            ("UpsampleNearest1D", "upsample_nearest1d"),
            ("UpsampleNearest2D", "upsample_nearest2d"),
            ("UpsampleNearest3D", "upsample_nearest3d"),
        ]
    },
    **{
        f"{name}ConvolutionBackward0": OperationKind(
            op=f"{name.lower()}_convolution", edges=("self", "weight"), factors=("weight",)
        )
        for name in ("Mkldnn", "Cudnn")
    },
}
