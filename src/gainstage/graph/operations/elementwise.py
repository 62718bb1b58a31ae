"""Functions of each element: mathematics, activations, arithmetic."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gainstage.graph.operations.operation import (
    Domain,
    Operands,
    Operation,
    always,
    broadcast,
    unary,
    where,
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


POSITIVE = "min=1e-8"
POWER = (
    Domain("a fractional power of a negative number", _root_of_negative),
    Domain("a negative power of 0", _pole_of_power),
)
DIVISION = (Domain("0/0", _zero_over_zero), Domain("division by 0", _over_zero))


def logarithm(op: str, function: Any) -> Operation:
    """Return a logarithm with its pole at 0."""
    return unary(
        op,
        function,
        where(f"{op} of 0", lambda x: x == 0, "self"),
        where(f"{op} of a negative number", lambda x: x < 0, "self"),
        singular=always,
        hazard="logarithm",
        clamp=POSITIVE,
    )


def beyond_one(op: str, function: Any, *more: Domain) -> Operation:
    """Return a function that is defined on [-1, 1]."""
    outside = where(f"{op} of a value outside [-1, 1]", lambda x: x.abs() > 1)
    return unary(
        op,
        function,
        outside,
        *more,
        singular=always,
        hazard="within-one",
        clamp="-1 + 1e-6, 1 - 1e-6",
    )


def exponential(op: str, function: Any, recover: Any = None) -> Operation:
    """Return a function that overflows for moderate arguments."""
    return unary(
        op,
        function,
        makes="inf",
        singular=always,
        recover=recover,
        hazard="exponential",
        clamp="max=20.0",
    )


def non_positive_integer(x: Tensor) -> Tensor:
    """Return where a tensor has a pole of the gamma function."""
    return (x <= 0) & (x == x.floor())


MATHEMATICS = {
    "AbsBackward0": unary("abs", torch.abs, makes=""),
    "AcosBackward0": beyond_one("acos", torch.acos),
    "AcoshBackward0": unary(
        "acosh",
        torch.acosh,
        where("acosh of a value below 1", lambda x: x < 1),
        singular=always,
        hazard="from-one",
        clamp="min=1 + 1e-6",
    ),
    "AsinBackward0": beyond_one("asin", torch.asin),
    "AsinhBackward0": unary("asinh", torch.asinh, makes=""),
    "AtanBackward0": unary("atan", torch.atan, makes=""),
    "AtanhBackward0": beyond_one(
        "atanh", torch.atanh, where("atanh of -1 or 1", lambda x: x.abs() == 1)
    ),
    "CosBackward0": unary("cos", torch.cos, makes=""),
    "CoshBackward0": exponential("cosh", torch.cosh),
    "DigammaBackward0": unary(
        "digamma",
        torch.digamma,
        where("digamma of 0 or a negative integer", non_positive_integer),
        singular=always,
    ),
    "ErfBackward0": unary("erf", torch.erf, makes=""),
    "ErfcBackward0": unary("erfc", torch.erfc, makes=""),
    "ErfinvBackward0": beyond_one(
        "erfinv", torch.erfinv, where("erfinv of -1 or 1", lambda x: x.abs() == 1)
    ),
    "ExpBackward0": exponential("exp", torch.exp, torch.log),
    "Exp2Backward0": exponential("exp2", torch.exp2, torch.log2),
    "Expm1Backward0": exponential("expm1", torch.expm1, torch.log1p),
    "LgammaBackward0": unary(
        "lgamma",
        torch.lgamma,
        where("lgamma of 0 or a negative integer", non_positive_integer),
        singular=always,
    ),
    "LogBackward0": logarithm("log", torch.log),
    "Log2Backward0": logarithm("log2", torch.log2),
    "Log10Backward0": logarithm("log10", torch.log10),
    "Log1PBackward0": unary(
        "log1p",
        torch.log1p,
        where("log1p of -1", lambda x: x == -1),
        where("log1p of a value below -1", lambda x: x < -1),
        singular=always,
        hazard="logarithm",
        clamp="min=-1 + 1e-6",
    ),
    "LogitBackward0": Operation(
        op="logit",
        forward=lambda a: torch.logit(a["self"], a["eps"]),
        settings=("eps",),
        domain=(
            where("logit of 0 or 1", lambda x: (x == 0) | (x == 1)),
            where("logit of a value outside [0, 1]", lambda x: (x < 0) | (x > 1)),
        ),
        singular=lambda a: a["eps"] is None,
        hazard="logarithm",
    ),
    "NegBackward0": unary("neg", torch.neg, makes=""),
    "ReciprocalBackward0": unary(
        "reciprocal",
        torch.reciprocal,
        where("division by 0", lambda x: x == 0),
        makes="inf",
        singular=always,
        recover=torch.reciprocal,
        hazard="divisor",
    ),
    "RsqrtBackward0": unary(
        "rsqrt",
        torch.rsqrt,
        where("rsqrt of 0", lambda x: x == 0, "self"),
        where("rsqrt of a negative number", lambda x: x < 0),
        singular=always,
        recover=lambda r: r.reciprocal().square(),
        hazard="root",
        clamp=POSITIVE,
    ),
    "SinBackward0": unary("sin", torch.sin, makes=""),
    "SincBackward0": unary("sinc", torch.sinc, makes=""),
    "SinhBackward0": exponential("sinh", torch.sinh),
    "SpecialEntrBackward0": unary("entr", torch.special.entr, makes="inf", singular=always),
    "SqrtBackward0": unary(
        "sqrt",
        torch.sqrt,
        where("sqrt of a negative number", lambda x: x < 0, "self"),
        makes="nan",
        singular=always,
        recover=torch.square,
        hazard="root",
        clamp=POSITIVE,
    ),
    "TanBackward0": unary("tan", torch.tan, makes=""),
}

ACTIVATIONS = {
    "CeluBackward0": Operation(
        op="celu", forward=lambda a: F.celu(a["self"], a["alpha"]), settings=("alpha",), makes=""
    ),
    "EluBackward0": Operation(
        op="elu",
        forward=lambda a: torch.ops.aten.elu(a["self"], a["alpha"], a["scale"], a["input_scale"]),
        settings=("alpha", "scale", "input_scale"),
        makes="",
    ),
    "GeluBackward0": Operation(
        op="gelu",
        forward=lambda a: F.gelu(a["self"], approximate=a["approximate"]),
        settings=("approximate",),
        makes="",
    ),
    "GluBackward0": Operation(
        op="glu", forward=lambda a: F.glu(a["self"], a["dim"]), settings=("dim",), makes=""
    ),
    "HardswishBackward0": unary("hardswish", F.hardswish, makes=""),
    "HardtanhBackward0": Operation(
        op="hardtanh",
        forward=lambda a: F.hardtanh(a["self"], a["min_val"], a["max_val"]),
        settings=("min_val", "max_val"),
        makes="",
    ),
    "LeakyReluBackward0": Operation(
        op="leaky_relu",
        forward=lambda a: F.leaky_relu(a["self"], a["negative_slope"]),
        settings=("negative_slope",),
        makes="",
    ),
    "LogSigmoidBackward0": unary("logsigmoid", F.logsigmoid, makes=""),
    "MishBackward0": unary("mish", F.mish, makes=""),
    "PreluKernelBackward0": Operation(
        op="prelu",
        edges=("self", "weight"),
        forward=lambda a: torch.where(a["self"] > 0, a["self"], a["weight"] * a["self"]),
        makes="inf",
    ),
    "ReluBackward0": unary("relu", torch.relu, makes=""),
    "SigmoidBackward0": unary("sigmoid", torch.sigmoid, makes=""),
    "SiluBackward0": unary("silu", F.silu, makes=""),
    "SoftplusBackward0": Operation(
        op="softplus",
        forward=lambda a: F.softplus(a["self"], a["beta"], a["threshold"]),
        settings=("beta", "threshold"),
        makes="inf",
    ),
    "TanhBackward0": unary("tanh", torch.tanh, makes=""),
    "ThresholdBackward0": Operation(op="threshold", makes=""),
}

TWO = ("self", "other")

ARITHMETIC = {
    "AddBackward0": Operation(
        op="add",
        edges=TWO,
        forward=lambda a: torch.add(a["self"], a["other"], alpha=a["alpha"]),
        settings=("alpha",),
        makes="inf",
    ),
    "AddBackward1": Operation(op="add", makes="inf"),
    "SubBackward0": Operation(
        op="sub",
        edges=TWO,
        forward=lambda a: torch.sub(a["self"], a["other"], alpha=a["alpha"]),
        settings=("alpha",),
        makes="inf",
    ),
    "SubBackward1": Operation(op="sub", makes="inf"),
    "RsubBackward0": Operation(
        op="rsub",
        edges=TWO,
        forward=lambda a: torch.sub(a["other"], a["self"], alpha=a["alpha"]),
        settings=("alpha",),
        makes="inf",
    ),
    "RsubBackward1": Operation(op="rsub", makes="inf"),
    "MulBackward0": Operation(
        op="mul", edges=TWO, forward=lambda a: torch.mul(a["self"], a["other"]), makes="inf"
    ),
    "MulBackward1": Operation(
        op="mul",
        forward=lambda a: torch.mul(a["self"], a["other"]),
        settings=("other",),
        makes="inf",
    ),
    "DivBackward0": Operation(
        op="div",
        edges=TWO,
        forward=lambda a: torch.div(a["self"], a["other"]),
        domain=DIVISION,
        singular=scalar_is_not_zero("other"),
        hazard="divisor",
    ),
    "DivBackward1": Operation(
        op="div",
        forward=lambda a: torch.div(a["self"], a["other"]),
        settings=("other",),
        domain=DIVISION,
        singular=scalar_is_not_zero("other"),
        hazard="divisor",
    ),
    "PowBackward0": Operation(
        op="pow",
        forward=lambda a: torch.pow(a["self"], a["exponent"]),
        settings=("exponent",),
        domain=POWER,
        singular=power_is_singular,
        hazard="power",
        clamp=POSITIVE,
    ),
    "PowBackward1": Operation(
        op="pow",
        edges=("self", "exponent"),
        forward=lambda a: torch.pow(a["self"], a["exponent"]),
        domain=POWER,
        singular=always,
        hazard="power",
        clamp=POSITIVE,
    ),
    "PowBackward2": Operation(
        op="pow",
        edges=("exponent",),
        forward=lambda a: torch.pow(a["self"], a["exponent"]),
        settings=("self",),
        domain=POWER,
        singular=always,
        hazard="power",
        clamp=POSITIVE,
    ),
    "AddcdivBackward0": Operation(
        op="addcdiv",
        edges=("self", "tensor1", "tensor2"),
        forward=lambda a: torch.addcdiv(a["self"], a["tensor1"], a["tensor2"], value=a["value"]),
        settings=("value",),
        domain=(Domain("division by 0", lambda a: a["tensor2"] == 0),),
        singular=scalar_is_not_zero("tensor2"),
    ),
    "AddcmulBackward0": Operation(
        op="addcmul",
        edges=("self", "tensor1", "tensor2"),
        forward=lambda a: torch.addcmul(a["self"], a["tensor1"], a["tensor2"], value=a["value"]),
        settings=("value",),
        makes="inf",
    ),
    "Atan2Backward0": Operation(
        op="atan2",
        edges=TWO,
        forward=lambda a: torch.atan2(a["self"], a["other"]),
        makes="",
        singular=always,
    ),
    "HypotBackward0": Operation(
        op="hypot",
        edges=TWO,
        forward=lambda a: torch.hypot(a["self"], a["other"]),
        makes="inf",
        singular=always,
        hazard="root",
    ),
    "LerpBackward0": Operation(
        op="lerp",
        edges=("self", "end"),
        forward=lambda a: torch.lerp(a["self"], a["end"], a["weight"]),
        settings=("weight",),
        makes="inf",
    ),
    "LogaddexpBackward0": Operation(
        op="logaddexp",
        edges=TWO,
        forward=lambda a: torch.logaddexp(a["self"], a["other"]),
        makes="",
        singular=always,
    ),
    "MaximumBackward0": Operation(
        op="maximum", edges=TWO, forward=lambda a: torch.maximum(a["self"], a["other"]), makes=""
    ),
    "MinimumBackward0": Operation(
        op="minimum", edges=TWO, forward=lambda a: torch.minimum(a["self"], a["other"]), makes=""
    ),
    "XlogyBackward0": Operation(
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
    "ClampBackward1": Operation(
        op="clamp",
        forward=lambda a: torch.clamp(a["self"], a["min"], a["max"]),
        settings=("min", "max"),
        makes="",
    ),
    "ClampMinBackward0": Operation(
        op="clamp_min",
        forward=lambda a: torch.clamp_min(a["self"], a["min"]),
        settings=("min",),
        makes="",
    ),
    "ClampMaxBackward0": Operation(
        op="clamp_max",
        forward=lambda a: torch.clamp_max(a["self"], a["max"]),
        settings=("max",),
        makes="",
    ),
    "NanToNumBackward0": Operation(op="nan_to_num", makes=""),
    "FmodBackward0": Operation(op="fmod", edges=(), hazard="divisor"),
    "FmodBackward1": Operation(op="fmod", edges=(), hazard="divisor"),
    "RemainderBackward0": Operation(op="remainder", edges=(), hazard="divisor"),
    "RemainderBackward1": Operation(op="remainder", edges=(), hazard="divisor"),
}

ELEMENTWISE = MATHEMATICS | ACTIVATIONS | ARITHMETIC
