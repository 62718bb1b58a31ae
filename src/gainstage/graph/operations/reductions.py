"""Sums, means, norms, softmax: functions of many elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gainstage.graph.operations.operation import Domain, Operands, OperationKind, always

linalg: Any = torch.linalg
OVER = ("dim", "keepdim")


def dims_of(a: Operands) -> Any:
    """Return the reduced dimensions, None for all of them, as torch's functions take them."""
    dim = a.get("dim")
    return None if dim == () else dim


def _all_lowest(a: Operands) -> Tensor:
    lowest = torch.isneginf(a["self"])
    return lowest.all(a["dim"], keepdim=True) if a["self"].dim() else lowest


def _all_lowest_over_dims(a: Operands) -> Tensor:
    lowest = torch.isneginf(a["self"])
    for dim in sorted((d % max(lowest.dim(), 1) for d in a["dim"]), reverse=True):
        lowest = lowest.all(dim, keepdim=True)
    return lowest


def _too_few(a: Operands) -> Tensor:
    x: Tensor = a["self"]
    dim = dims_of(a)
    count = x.numel() if dim is None else 1
    for d in () if dim is None else dim:
        count *= x.shape[d]
    correction = 1 if a["correction"] is None else a["correction"]
    return torch.tensor(count <= correction)


def _of_none(a: Operands) -> Tensor:
    x: Tensor = a["self"]
    return torch.tensor(x.numel() == 0)


def norm_is_singular(a: Operands) -> bool:
    """Return whether torch's derivative of the p-norm can be infinite.

    At 0 torch gives the subgradient 0 for p >= 1.
    """
    order = a.get("ord", a.get("p"))
    return not isinstance(order, (int, float)) or order < 1


def deviation(op: str, function: Any) -> OperationKind:
    """Return a variance or a standard deviation."""

    def forward(a: Operands) -> Any:
        if bool(_too_few(a)):  # torch would warn once more of what it warned of in the run
            result = a["self"].new_full(a["shape"], torch.nan)
            return (result, result) if op.endswith("_mean") else result
        return function(a["self"], dims_of(a), correction=a["correction"], keepdim=a["keepdim"])

    return OperationKind(
        op=op,
        forward=forward,
        settings=("correction", *OVER),
        domain=(Domain(f"{op} of too few values for its correction", _too_few),),
        hazard=None if op.endswith("_mean") else "root",
        dispersion="deviation",
    )


def norm(op: str, order: str, *settings: str) -> OperationKind:
    """Return a vector norm whose p is saved as `order`."""
    return OperationKind(
        op=op,
        forward=lambda a: linalg.vector_norm(
            a["self"], 2 if a[order] is None else a[order], dims_of(a), a.get("keepdim", False)
        ),
        settings=(order, *settings),
        makes="inf",
        singular=norm_is_singular,
        hazard="root",
        dispersion="norm",
    )


def softmax(op: str, function: Any, recover: Callable[[Tensor], Tensor]) -> OperationKind:
    """Return a softmax along one dimension, which a row of -inf makes NaN."""
    return OperationKind(
        op=op,
        forward=lambda a: function(a["self"], a["dim"]),
        settings=("dim",),
        domain=(Domain(f"{op} of all -inf", _all_lowest),),
        makes="nan",
        singular=always,
        recover=recover,
        hazard="masked-row",
        takes_masks=True,
    )


def picked(a: Operands) -> Any:
    """Return the elements that max, min, sort and their kin chose, by the indices they saved."""
    x, indices, dim = a["self"], a["indices"], a["dim"]
    if not x.dim():
        return x, indices
    if a.get("keepdim", True):
        return torch.gather(x, dim, indices), indices
    return torch.gather(x, dim, indices.unsqueeze(dim)).squeeze(dim), indices


def selection(op: str, *settings: str) -> OperationKind:
    """Return a function that picks elements along a dimension and returns their indices too."""
    return OperationKind(
        op=op, forward=picked, data=("indices",), settings=("dim", *settings), moves="pick"
    )


MEAN_OF_NONE = Domain("mean of no elements", _of_none)

REDUCTIONS = {
    "SumBackward0": OperationKind(
        op="sum",
        forward=lambda a: torch.sum(a["self"]),
        makes="inf",
        accumulates=True,
        reduction="sum",
    ),
    "SumBackward1": OperationKind(
        op="sum",
        forward=lambda a: torch.sum(a["self"], dims_of(a), a["keepdim"]),
        settings=OVER,
        makes="inf",
        accumulates=True,
        reduction="sum",
    ),
    "NansumBackward0": OperationKind(
        op="nansum",
        forward=lambda a: torch.nansum(a["self"], dims_of(a), a["keepdim"]),
        settings=OVER,
        makes="inf",
    ),
    "MeanBackward0": OperationKind(
        op="mean",
        forward=lambda a: torch.mean(a["self"]),
        domain=(MEAN_OF_NONE,),
        hazard="no-elements",
        accumulates=True,
        reduction="mean",
        before_activation=True,
    ),
    "MeanBackward1": OperationKind(
        op="mean",
        forward=lambda a: torch.mean(a["self"], dims_of(a), a["keepdim"]),
        settings=OVER,
        domain=(MEAN_OF_NONE,),
        hazard="no-elements",
        accumulates=True,
        reduction="mean",
        before_activation=True,
    ),
    "ProdBackward0": OperationKind(op="prod", forward=lambda a: torch.prod(a["self"]), makes="inf"),
    "ProdBackward1": OperationKind(
        op="prod",
        forward=lambda a: torch.prod(a["self"], a["dim"], a["keepdim"]),
        settings=OVER,
        makes="inf",
    ),
    "CumsumBackward0": OperationKind(
        op="cumsum",
        forward=lambda a: torch.cumsum(a["self"], a["dim"]),
        settings=("dim",),
        makes="inf",
        accumulates=True,
    ),
    "CumprodBackward0": OperationKind(
        op="cumprod",
        forward=lambda a: torch.cumprod(a["self"], a["dim"]),
        settings=("dim",),
        makes="inf",
    ),
    "LogsumexpBackward0": OperationKind(
        op="logsumexp",
        forward=lambda a: torch.logsumexp(a["self"], a["dim"], a["keepdim"]),
        settings=OVER,
        domain=(Domain("logsumexp of all -inf", _all_lowest_over_dims),),
        makes="inf",
        singular=always,
        hazard="masked-row",
        takes_masks=True,
    ),
    "LogcumsumexpBackward0": OperationKind(
        op="logcumsumexp",
        forward=lambda a: torch.logcumsumexp(a["self"], a["dim"]),
        settings=("dim",),
        makes="",
        takes_masks=True,
    ),
    "SoftmaxBackward0": softmax("softmax", torch.softmax, torch.log),
    "SafeSoftmaxBackward0": OperationKind(
        op="softmax", settings=("dim",), makes="", hazard="masked-row", takes_masks=True
    ),
    "LogSoftmaxBackward0": softmax("log_softmax", torch.log_softmax, torch.clone),
    "VarBackward0": deviation("var", torch.var),
    "StdBackward0": deviation("std", torch.std),
    "VarMeanBackward0": deviation("var_mean", torch.var_mean),
    "StdMeanBackward0": deviation("std_mean", torch.std_mean),
    "LinalgVectorNormBackward0": norm("linalg_vector_norm", "ord", *OVER),
    "NormBackward0": norm("norm", "p"),
    "NormBackward1": norm("norm", "p", *OVER),
    "NormBackward2": norm("norm", "p"),
    "NormBackward3": norm("norm", "p", *OVER),
    "DistBackward0": OperationKind(
        op="dist",
        edges=("self", "other"),
        forward=lambda a: torch.dist(a["self"], a["other"], a["p"]),
        settings=("p",),
        makes="inf",
        singular=norm_is_singular,
        hazard="root",
    ),
    "CdistBackward0": OperationKind(
        op="cdist",
        edges=("x1", "x2"),
        forward=lambda a: torch.cdist(a["x1"], a["x2"], a["p"]),
        settings=("p",),
        makes="inf",
        singular=norm_is_singular,
        hazard="root",
    ),
    "EuclideanDistBackward0": OperationKind(
        op="cdist",
        edges=("x1", "x2"),
        forward=lambda a: torch.cdist(a["x1"], a["x2"]),
        hazard="root",
    ),
    "AmaxBackward0": OperationKind(
        op="amax",
        forward=lambda a: torch.amax(a["self"], a["dim"], a["keepdim"]),
        settings=OVER,
        makes="",
    ),
    "AminBackward0": OperationKind(
        op="amin",
        forward=lambda a: torch.amin(a["self"], a["dim"], a["keepdim"]),
        settings=OVER,
        makes="",
    ),
    "MaxBackward0": selection("max", "keepdim"),
    "MinBackward0": selection("min", "keepdim"),
    "MedianBackward1": selection("median", "keepdim"),
    "SortBackward0": selection("sort"),
    "TopkBackward0": selection("topk"),
    "MaxBackward1": OperationKind(op="max", forward=lambda a: torch.max(a["self"]), makes=""),
    "MinBackward1": OperationKind(op="min", forward=lambda a: torch.min(a["self"]), makes=""),
}
