"""Losses that torch computes as one operation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gainstage.graph.operations.operation import Domain, Operands, OperationKind

WEIGHTS = ("weight", "pos_weight")


def _list(setting: Any) -> Any:
    return list(setting) if isinstance(setting, tuple) else setting


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


def loss(op: str, *arguments: str) -> OperationKind:
    """Return an elementwise loss, from torch's kernel and the order of its arguments.

    The functions of `torch.nn.functional` would warn once more of what they warned of in the run.
    """
    kernel = getattr(torch.ops.aten, op)
    return OperationKind(
        op=op,
        edges=("self", "target"),
        forward=lambda a: kernel(a["self"], a["target"], *(a[name] for name in arguments)),
        data=tuple(name for name in arguments if name in WEIGHTS),
        settings=tuple(name for name in arguments if name not in WEIGHTS),
        makes="inf",
        takes_data=True,
    )


def negative_log_likelihood(op: str) -> OperationKind:
    """Return the loss that ends a cross entropy."""
    return OperationKind(
        op=op,
        forward=_nll_loss,
        data=("target", "weight"),
        settings=("reduction", "ignore_index"),
        domain=(
            Domain("0/0: no target counts, all are ignored or of weight 0", _nothing_counts),
            Domain("the target's class has log-probability -inf", _impossible),
        ),
        takes_masks=True,
        takes_data=True,
    )


LOSSES = {
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
    "CtcLossBackward0": OperationKind(
        op="ctc_loss",
        edges=("log_probs",),
        forward=_ctc_loss,
        data=("targets",),
        settings=("input_lengths", "target_lengths", "blank", "zero_infinity"),
        domain=(Domain("no alignment of the target fits the input", _too_short),),
        takes_data=True,
    ),
}
