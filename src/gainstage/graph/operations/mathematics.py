"""Mathematical functions of each element."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gainstage.graph.operations.operation import (
    POSITIVE,
    Domain,
    OperationKind,
    always,
    unary,
    where,
)


def logarithm(op: str, function: Any) -> OperationKind:
    """Return a logarithm with its pole at 0."""
    return unary(
        op,
        function,
        where(f"{op} of 0", lambda x: x == 0, "self"),
        where(f"{op} of a negative number", lambda x: x < 0, "self"),
        singular=always,
        hazard="logarithm",
        clamp=POSITIVE,
        pole=0.0,
    )


def beyond_one(op: str, function: Any, *more: Domain) -> OperationKind:
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


def exponential(op: str, function: Any, recover: Any = None) -> OperationKind:
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
    "LogitBackward0": OperationKind(
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
    "NegBackward0": unary("neg", torch.neg, makes="", negates=True),
    "ReciprocalBackward0": unary(
        "reciprocal",
        torch.reciprocal,
        where("division by 0", lambda x: x == 0),
        makes="inf",
        singular=always,
        recover=torch.reciprocal,
        hazard="divisor",
        power="inverse",
    ),
    "RsqrtBackward0": unary(
        "rsqrt",
        torch.rsqrt,
        where("rsqrt of 0", lambda x: x == 0, "self"),
        where("rsqrt of a negative number", lambda x: x < 0),
        singular=always,
        recover=lambda r: r.reciprocal().square(),
        hazard="root",
        power="inverse-root",
        clamp=POSITIVE,
    ),
    "SinBackward0": unary("sin", torch.sin, makes="", activation="sin"),
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
        power="root",
        clamp=POSITIVE,
    ),
    "TanBackward0": unary("tan", torch.tan, makes=""),
}
