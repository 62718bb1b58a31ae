"""Products and decompositions of matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gainstage.graph.operations.operation import Domain, Operands, OperationKind, always

linalg: Any = torch.linalg
"""Untyped on purpose: torch's own stubs leave the results of decompositions unknown."""


def product(op: str, first: str, second: str, function: Callable[[Any, Any], Any]) -> OperationKind:
    """Return a product of two tensors; it can overflow, and inf - inf inside it is NaN."""
    return OperationKind(
        op=op, edges=(first, second), forward=lambda a: function(a[first], a[second])
    )


def matrix_product(
    op: str, first: str, second: str, function: Callable[[Any, Any], Any]
) -> OperationKind:
    """Return a product of two matrices, either of which may be a weight."""
    return replace(product(op, first, second, function), factors=(first, second), takes_data=True)


def sum_and_product(op: str, first: str, second: str, function: Any) -> OperationKind:
    """Return beta * self + alpha * (first @ second)."""
    return OperationKind(
        op=op,
        edges=("self", first, second),
        forward=lambda a: function(
            a["self"], a[first], a[second], beta=a["beta"], alpha=a["alpha"]
        ),
        settings=("beta", "alpha"),
    )


def affine(op: str, first: str, second: str, function: Any) -> OperationKind:
    """Return beta * self + alpha * (first @ second), either factor of which may be a weight."""
    plain = sum_and_product(op, first, second, function)
    return replace(plain, factors=(first, second), bias="self", takes_data=True)


def _singular(name: str) -> Callable[[Operands], Tensor]:
    def rule(a: Operands) -> Tensor:
        return linalg.matrix_rank(a[name].detach()) < a[name].shape[-1]

    return rule


def _not_positive(a: Operands) -> Tensor:
    return linalg.eigvalsh(a["self"].detach()).amin(-1) <= 0


def _cholesky(a: Operands) -> Any:
    return linalg.cholesky_ex(a["self"], upper=a["upper"])


def _gram(a: Operands) -> Tensor:
    lower = a["L"].mH if a["upper"] else a["L"]
    return lower @ lower.mH


def _decomposed(a: Operands) -> Tensor:
    return (a["U"] * a["S"].unsqueeze(-2)) @ a["Vh"]


def _composed(a: Operands) -> Tensor:
    vectors = a["eigenvectors"]
    return (vectors * a["eigenvalues"].unsqueeze(-2)) @ vectors.mH


LINEAR_ALGEBRA = {
    "MmBackward0": matrix_product("mm", "self", "mat2", torch.mm),
    "BmmBackward0": matrix_product("bmm", "self", "mat2", torch.bmm),
    "MatmulBackward0": replace(product("matmul", "self", "other", torch.matmul), takes_data=True),
    "MvBackward0": matrix_product("mv", "self", "vec", torch.mv),
    "DotBackward0": product("dot", "self", "tensor", torch.dot),
    "LinearBackward0": OperationKind(
        op="linear",
        edges=("input", "weight", "bias"),
        forward=lambda a: torch.nn.functional.linear(a["input"], a["weight"], a["bias"]),
        factors=("weight",),
        bias="bias",
        takes_data=True,
    ),
    "MkldnnLinearBackward0": OperationKind(
        op="mkldnn_linear", edges=("input", "weight", "bias"), factors=("weight",), bias="bias"
    ),
    "AddmmBackward0": affine("addmm", "mat1", "mat2", torch.addmm),
    "AddmvBackward0": affine("addmv", "mat", "vec", torch.addmv),
    "AddrBackward0": sum_and_product("addr", "vec1", "vec2", torch.addr),
    "AddbmmBackward0": sum_and_product("addbmm", "batch1", "batch2", torch.addbmm),
    "BaddbmmBackward0": affine("baddbmm", "batch1", "batch2", torch.baddbmm),
    "LinalgCholeskyExBackward0": OperationKind(
        op="linalg_cholesky",
        is_matrix_function=True,
        forward=_cholesky,
        settings=("upper",),
        domain=(Domain("cholesky of a matrix that is not positive definite", _not_positive),),
        singular=always,
        results=("L",),
        compose=_gram,
    ),
    "LinalgInvExBackward0": OperationKind(
        op="linalg_inv",
        is_matrix_function=True,
        edges=("A",),
        forward=lambda a: linalg.inv_ex(a["A"]),
        domain=(Domain("inverse of a singular matrix", _singular("A")),),
        singular=always,
        results=("inverse",),
        compose=lambda a: linalg.inv_ex(a["inverse"])[0],
    ),
    "LinalgSolveExBackward0": OperationKind(
        op="linalg_solve",
        is_matrix_function=True,
        edges=("A", "B"),
        forward=lambda a: linalg.solve_ex(a["A"], a["B"], left=a["left"]),
        settings=("left",),
        domain=(Domain("solve with a singular matrix", _singular("A")),),
        singular=always,
    ),
    "LinalgSvdBackward0": OperationKind(
        op="linalg_svd",
        is_matrix_function=True,
        edges=("A",),
        forward=lambda a: linalg.svd(a["A"], full_matrices=a["full_matrices"]),
        settings=("full_matrices",),
        singular=always,
        hazard="equal-values",
        results=("U", "S", "Vh"),
        compose=_decomposed,
    ),
    "LinalgEighBackward0": OperationKind(
        op="linalg_eigh",
        is_matrix_function=True,
        edges=("A",),
        forward=lambda a: linalg.eigh(a["A"]),
        singular=always,
        hazard="equal-values",
        results=("eigenvalues", "eigenvectors"),
        compose=_composed,
    ),
    "LinalgDetBackward0": OperationKind(
        op="linalg_det",
        is_matrix_function=True,
        edges=("A",),
        forward=lambda a: linalg.det(a["A"]),
        makes="inf",
    ),
    "LinalgSlogdetBackward0": OperationKind(
        op="linalg_slogdet",
        is_matrix_function=True,
        edges=("A",),
        forward=lambda a: linalg.slogdet(a["A"]),
        domain=(Domain("log of the determinant of a singular matrix", _singular("A")),),
        singular=always,
    ),
}
