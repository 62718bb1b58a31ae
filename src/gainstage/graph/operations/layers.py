"""Layers and losses that torch computes as one operation."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gainstage.graph.operations.operation import Domain, Operands, Operation

WEIGHTS = ("weight", "pos_weight")


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


def _nll_loss(a: Operands) -> Tensor:
    kernel = torch.ops.aten.nll_loss if a["self"].dim() <= 2 else torch.ops.aten.nll_loss2d
    return kernel(a["self"], a["target"], a["weight"], a["reduction"], a["ignore_index"])


def _nothing_counts(a: Operands) -> Tensor:
    target: Tensor = a["target"]
    counts = target != a["ignore_index"]
    if a["weight"] is not None:
        known = target.clamp(0, len(a["weight"]) - 1)
        counts = counts & (a["weight"][known] != 0)
    return ~counts.any() if a["reduction"] == 1 else torch.tensor(False)


def _impossible(a: Operands) -> Tensor:
    if a["self"].dim() != 2:
        return torch.tensor(False)
    target: Tensor = a["target"]
    known = target.clamp(0, a["self"].shape[1] - 1).unsqueeze(1)
    chosen = torch.isneginf(a["self"].gather(1, known).squeeze(1))
    return chosen & (target != a["ignore_index"])


def _ctc_loss(a: Operands) -> Tensor:
    names = ("log_probs", "targets", "input_lengths", "target_lengths", "blank", "zero_infinity")
    return torch.ops.aten._ctc_loss(*(_list(a[name]) for name in names))[0]


def _too_short(a: Operands) -> Tensor:
    return torch.as_tensor(a["input_lengths"]) < torch.as_tensor(a["target_lengths"])


def loss(op: str, *arguments: str) -> Operation:
    """Return an elementwise loss, from torch's kernel and the order of its arguments.

    The functions of `torch.nn.functional` would warn once more of what they warned of in the run.
    """
    kernel = getattr(torch.ops.aten, op)
    return Operation(
        op=op,
        edges=("self", "target"),
        forward=lambda a: kernel(a["self"], a["target"], *(a[name] for name in arguments)),
        data=tuple(name for name in arguments if name in WEIGHTS),
        settings=tuple(name for name in arguments if name not in WEIGHTS),
        makes="inf",
    )


def negative_log_likelihood(op: str) -> Operation:
    """Return the loss that ends a cross entropy."""
    return Operation(
        op=op,
        forward=_nll_loss,
        data=("target", "weight"),
        settings=("reduction", "ignore_index"),
        domain=(
            Domain("0/0: no target counts, all are ignored or of weight 0", _nothing_counts),
            Domain("the target's class has log-probability -inf", _impossible),
        ),
    )


def attention(result: str) -> Operation:
    """Return a fused scaled dot product attention; `result` names its mask."""
    return Operation(
        op="scaled_dot_product_attention",
        edges=("query", "key", "value", result),
        forward=_attention if result == "attn_mask" else None,
        settings=("dropout_p", "is_causal", "scale"),
        domain=(Domain("attention with every key masked", _masked_out),)
        if result == "attn_mask"
        else (),
        hazard="masked-row",
    )


NORMS = ("input", "weight", "bias")

LAYERS = {
    "ConvolutionBackward0": Operation(
        op="convolution",
        edges=NORMS,
        forward=_convolution,
        settings=("stride", "padding", "dilation", "transposed", "output_padding", "groups"),
    ),
    "NativeLayerNormBackward0": Operation(
        op="layer_norm",
        edges=NORMS,
        forward=_layer_norm,
        data=("result2",),
        settings=("normalized_shape",),
        domain=(Domain("0/0: layer_norm of equal values without eps", _constant_rows),),
        normalizes=True,
    ),
    "NativeBatchNormBackward0": Operation(
        op="batch_norm",
        edges=NORMS,
        forward=_batch_norm,
        data=("running_mean", "running_var"),
        settings=("training", "eps"),
        normalizes=True,
    ),
    "NativeGroupNormBackward0": Operation(
        op="group_norm",
        edges=NORMS,
        forward=_group_norm,
        settings=("group", "eps"),
        normalizes=True,
    ),
    "FusedRmsNormBackward0": Operation(op="rms_norm", edges=("input", "weight"), normalizes=True),
    "NativeDropoutBackward0": Operation(
        op="dropout",
        forward=lambda a: a["self"] * a["result1"] / (1 - a["p"]),
        data=("result1",),
        settings=("p",),
        makes="inf",
    ),
    "ScaledDotProductFlashAttentionForCpuBackward0": attention("attn_mask"),
    "ScaledDotProductFlashAttentionBackward0": attention("unused_mask"),
    "ScaledDotProductEfficientAttentionBackward0": attention("attn_bias"),
    "ScaledDotProductCudnnAttentionBackward0": attention("attn_bias"),
    "AvgPool2DBackward0": Operation(op="avg_pool2d", makes="inf"),
    "AdaptiveAvgPool2DBackward0": Operation(op="adaptive_avg_pool2d", makes="inf"),
    "MaxPool2DWithIndicesBackward0": Operation(op="max_pool2d", makes=""),
    "NllLossBackward0": negative_log_likelihood("nll_loss"),
    "NllLoss2DBackward0": negative_log_likelihood("nll_loss2d"),
    "MseLossBackward0": loss("mse_loss", "reduction"),
    "SmoothL1LossBackward0": loss("smooth_l1_loss", "reduction", "beta"),
    "HuberLossBackward0": loss("huber_loss", "reduction", "delta"),
    "SoftMarginLossBackward0": loss("soft_margin_loss", "reduction"),
    "BinaryCrossEntropyBackward0": loss("binary_cross_entropy", "weight", "reduction"),
    "BinaryCrossEntropyWithLogitsBackward0": loss(
        "binary_cross_entropy_with_logits", "weight", "pos_weight", "reduction"
    ),
    "KlDivBackward0": Operation(op="kl_div", edges=(), hazard="logarithm"),
    "CtcLossBackward0": Operation(
        op="ctc_loss",
        edges=("log_probs",),
        forward=_ctc_loss,
        data=("targets",),
        settings=("input_lengths", "target_lengths", "blank", "zero_infinity"),
        domain=(Domain("no alignment of the target fits the input", _too_short),),
    ),
    "ThnnFusedLstmCellBackward0": Operation(
        op="lstm_cell", edges=("input_gates", "hidden_gates", "cx", "input_bias", "hidden_bias")
    ),
    "ThnnFusedGruCellBackward0": Operation(
        op="gru_cell", edges=("input_gates", "hidden_gates", "hx", "input_bias", "hidden_bias")
    ),
    "MkldnnRnnLayerBackward0": Operation(
        op="lstm",
        edges=("input", "weight0", "weight1", "weight2", "weight3", "hx_", "cx_"),
        settings=("mode",),
    ),
    "CudnnRnnBackward0": Operation(op="rnn", edges=("input",), settings=("mode",)),
}
