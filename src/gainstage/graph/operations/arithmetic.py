"""Arithmetic, powers, minima and maxima of each element."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gainstage.graph.operations.operation import (
    POSITIVE,
    Domain,
    Operands,
    OperationKind,
    always,
    broadcast,
)


def scalar_is_not_zero(name: str) -> Any:
    """Return a rule: singular unless the argument is one untracked number other than 0."""

    def rule(a: Operands) -> bool:
        value = a.get(name)
        if isinstance(value, Tensor):
            if value.dim() or value.requires_grad or value.device.type != "cpu":
                return True
            value = value.item()
        return not value

    return rule


def power_is_singular(a: Operands) -> bool:
    """Return whether x^p has an infinite derivative somewhere: not for p = 0, 1, or p >= 1."""
    exponent = a.get("exponent")
    if isinstance(exponent, complex) or not isinstance(exponent, (int, float)):
        return True
    return exponent != 0 and exponent < 1


def _zero_over_zero(a: Operands) -> Tensor:
    over, under = broadcast("self", "other")(a)
    return (over == 0) & (under == 0)


def _over_zero(a: Operands) -> Tensor:
    over, under = broadcast("self", "other")(a)
    return (over != 0) & (under == 0)


def _root_of_negative(a: Operands) -> Tensor:
    base, exponent = broadcast("self", "exponent")(a)
    if base.is_complex() or exponent.is_complex():
        return torch.zeros(base.shape, dtype=torch.bool, device=base.device)
    return (base < 0) & (exponent != exponent.floor())


def _pole_of_power(a: Operands) -> Tensor:
    base, exponent = broadcast("self", "exponent")(a)
    if exponent.is_complex():
        exponent = exponent.real
    return (base == 0) & (exponent < 0)


POWER = (
    Domain("a fractional power of a negative number", _root_of_negative),
    Domain("a negative power of 0", _pole_of_power),
)
DIVISION = (Domain("0/0", _zero_over_zero), Domain("division by 0", _over_zero))

TWO = ("self", "other")

ARITHMETIC = {
    "AddBackward0": OperationKind(
        op="add",
        edges=TWO,
        forward=lambda a: torch.add(a["self"], a["other"], alpha=a["alpha"]),
        settings=("alpha",),
        makes="inf",
        adds="sum",
        before_activation=True,
    ),
    "AddBackward1": OperationKind(op="add", makes="inf", adds="sum", before_activation=True),
    "SubBackward0": OperationKind(
        op="sub",
        edges=TWO,
        forward=lambda a: torch.sub(a["self"], a["other"], alpha=a["alpha"]),
        settings=("alpha",),
        makes="inf",
        adds="difference",
        before_activation=True,
    ),
    "SubBackward1": OperationKind(op="sub", makes="inf", adds="difference", before_activation=True),
    "RsubBackward0": OperationKind(
        op="rsub",
        edges=TWO,
        forward=lambda a: torch.sub(a["other"], a["self"], alpha=a["alpha"]),
        settings=("alpha",),
        makes="inf",
        adds="complement",
    ),
    "RsubBackward1": OperationKind(op="rsub", makes="inf", adds="complement"),
    "MulBackward0": OperationKind(
        op="mul",
        edges=TWO,
        forward=lambda a: torch.mul(a["self"], a["other"]),
        makes="inf",
        scales="product",
        before_activation=True,
    ),
    "MulBackward1": OperationKind(
        op="mul",
        forward=lambda a: torch.mul(a["self"], a["other"]),
        settings=("other",),
        makes="inf",
        scales="product",
        before_activation=True,
    ),
    "DivBackward0": OperationKind(
        op="div",
        edges=TWO,
        forward=lambda a: torch.div(a["self"], a["other"]),
        domain=DIVISION,
        singular=scalar_is_not_zero("other"),
        hazard="divisor",
        scales="quotient",
        before_activation=True,
    ),
    "DivBackward1": OperationKind(
        op="div",
        forward=lambda a: torch.div(a["self"], a["other"]),
        settings=("other",),
        domain=DIVISION,
        singular=scalar_is_not_zero("other"),
        hazard="divisor",
        scales="quotient",
        before_activation=True,
    ),
    "PowBackward0": OperationKind(
        op="pow",
        forward=lambda a: torch.pow(a["self"], a["exponent"]),
        settings=("exponent",),
        domain=POWER,
        singular=power_is_singular,
        hazard="power",
        power="any",
        clamp=POSITIVE,
    ),
    "PowBackward1": OperationKind(
        op="pow",
        edges=("self", "exponent"),
        forward=lambda a: torch.pow(a["self"], a["exponent"]),
        domain=POWER,
        singular=always,
        hazard="power",
        power="any",
        clamp=POSITIVE,
    ),
    "PowBackward2": OperationKind(
        op="pow",
        edges=("exponent",),
        forward=lambda a: torch.pow(a["self"], a["exponent"]),
        settings=("self",),
        domain=POWER,
        singular=always,
        hazard="power",
        power="any",
        clamp=POSITIVE,
    ),
    "AddcdivBackward0": OperationKind(
        op="addcdiv",
        edges=("self", "tensor1", "tensor2"),
        forward=lambda a: torch.addcdiv(a["self"], a["tensor1"], a["tensor2"], value=a["value"]),
        settings=("value",),
        domain=(Domain("division by 0", lambda a: a["tensor2"] == 0),),
        singular=scalar_is_not_zero("tensor2"),
        before_activation=True,
    ),
    "AddcmulBackward0": OperationKind(
        op="addcmul",
        edges=("self", "tensor1", "tensor2"),
        forward=lambda a: torch.addcmul(a["self"], a["tensor1"], a["tensor2"], value=a["value"]),
        settings=("value",),
        makes="inf",
        before_activation=True,
    ),
    "Atan2Backward0": OperationKind(
        op="atan2",
        edges=TWO,
        forward=lambda a: torch.atan2(a["self"], a["other"]),
        makes="",
        singular=always,
    ),
    "HypotBackward0": OperationKind(
        op="hypot",
        edges=TWO,
        forward=lambda a: torch.hypot(a["self"], a["other"]),
        makes="inf",
        singular=always,
        hazard="root",
    ),
    "LerpBackward0": OperationKind(
        op="lerp",
        edges=("self", "end"),
        forward=lambda a: torch.lerp(a["self"], a["end"], a["weight"]),
        settings=("weight",),
        makes="inf",
    ),
    "LogaddexpBackward0": OperationKind(
        op="logaddexp",
        edges=TWO,
        forward=lambda a: torch.logaddexp(a["self"], a["other"]),
        makes="",
        singular=always,
    ),
    "MaximumBackward0": OperationKind(
        op="maximum",
        edges=TWO,
        forward=lambda a: torch.maximum(a["self"], a["other"]),
        makes="",
        bounds_below=True,
    ),
    "MinimumBackward0": OperationKind(
        op="minimum", edges=TWO, forward=lambda a: torch.minimum(a["self"], a["other"]), makes=""
    ),
    "XlogyBackward0": OperationKind(
        op="xlogy",
        edges=TWO,
        forward=lambda a: torch.xlogy(a["self"], a["other"]),
        domain=(
            Domain("xlogy of x and 0", lambda a: (a["self"] != 0) & (a["other"] == 0)),
            Domain("xlogy of x and a negative number", lambda a: a["other"] < 0),
        ),
        singular=always,
        hazard="logarithm",
    ),
    "ClampBackward1": OperationKind(
        op="clamp",
        forward=lambda a: torch.clamp(a["self"], a["min"], a["max"]),
        settings=("min", "max"),
        makes="",
        bounds_below=True,
        drops_values=True,
    ),
    "ClampMinBackward0": OperationKind(
        op="clamp_min",
        forward=lambda a: torch.clamp_min(a["self"], a["min"]),
        settings=("min",),
        makes="",
        bounds_below=True,
    ),
    "ClampMaxBackward0": OperationKind(
        op="clamp_max",
        forward=lambda a: torch.clamp_max(a["self"], a["max"]),
        settings=("max",),
        makes="",
    ),
    "ClampBackward0": OperationKind(op="clamp", edges=(), bounds_below=True, drops_values=True),
    "ClampMinBackward1": OperationKind(op="clamp_min", edges=(), bounds_below=True),
    "NanToNumBackward0": OperationKind(op="nan_to_num", makes="", drops_values=True),
    "FmodBackward0": OperationKind(op="fmod", edges=(), hazard="divisor"),
    "FmodBackward1": OperationKind(op="fmod", edges=(), hazard="divisor"),
    "RemainderBackward0": OperationKind(op="remainder", edges=(), hazard="divisor"),
    "RemainderBackward1": OperationKind(op="remainder", edges=(), hazard="divisor"),
}
