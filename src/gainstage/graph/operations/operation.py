"""What is known of one kind of node: its arguments, how to compute it again, where it fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gainstage.facts.fault import Dispersion, Hazard

Operands = Mapping[str, Any]
"""Arguments by torch's names: tensors, settings like `dim`, the result's `shape` and `dtype`."""


@dataclass(frozen=True, slots=True)
class Domain:
    """One way to leave an operation's domain: where it does, and what to call it."""

    text: str
    """Such as `log of 0`."""
    holds: Callable[[Operands], Tensor]
    """A mask over the elements of the result, or of what broadcasts or reduces to it."""
    operand: str | None = None
    """Whose smallest positive value elsewhere is worth telling."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One kind of node."""

    op: str
    """torch's function name."""
    edges: tuple[str, ...] = ("self",)
    """The argument that each of `next_functions` stands for."""
    forward: Callable[[Operands], Any] | None = None
    """Computes the result (or a tuple of results) again; None where that is not possible."""
    data: tuple[str, ...] = ()
    """Saved tensors beside the edges: arguments that take no gradient."""
    settings: tuple[str, ...] = ()
    """Saved arguments that are no tensors."""
    domain: tuple[Domain, ...] = ()
    makes: str = "nan inf"
    """Which non-finite values it can make of finite ones."""
    carries: bool = False
    """Whether it only moves or picks elements."""
    masks: bool = False
    """Whether it puts a constant of the user's in place of elements."""
    variadic: bool = False
    """Whether its edges are the members of one list, `tensors`."""
    recover: Callable[[Tensor], Tensor] | None = None
    """Computes the only argument from the result, for kinds that save nothing else."""
    singular: Callable[[Operands], bool] | None = None
    """Tells from the settings whether the derivative can be infinite; None where it never is."""
    hazard: Hazard | None = None
    """How it gets out of its domain: what the repair of a fault depends on."""
    clamp: str | None = None
    """Arguments of `clamp` that keep its argument within its domain: `min=1e-8`."""
    normalizes: bool = False
    """Whether it is a normalisation layer."""
    dispersion: Dispersion | None = None
    """Whether it measures how far values lie apart: a deviation, or a norm."""

    def edge_name(self, edge: int) -> str:
        """Return the argument that an edge stands for."""
        if self.variadic or edge >= len(self.edges):
            return f"tensors[{edge}]" if self.variadic else f"argument{edge}"
        return self.edges[edge]


def always(_: Operands) -> bool:
    """Return True: the derivative can be infinite whatever the settings."""
    return True


def unary(
    op: str,
    function: Callable[[Tensor], Tensor],
    *domain: Domain,
    makes: str = "nan inf",
    singular: Callable[[Operands], bool] | None = None,
    recover: Callable[[Tensor], Tensor] | None = None,
    hazard: Hazard | None = None,
    clamp: str | None = None,
) -> Operation:
    """Return the operation of a function of one tensor without settings."""
    return Operation(
        op=op,
        forward=lambda a: function(a["self"]),
        domain=domain,
        makes=makes,
        singular=singular,
        recover=recover,
        hazard=hazard,
        clamp=clamp,
    )


def where(text: str, holds: Callable[[Tensor], Tensor], operand: str | None = None) -> Domain:
    """Return the domain rule of a function of `self` alone; complex numbers leave no domain."""
    return Domain(text, lambda a: holds(real_of(a["self"])), operand)


def real_of(tensor: Tensor) -> Tensor:
    """Return the tensor, or its magnitude where complex numbers cannot be compared."""
    return tensor.abs() if tensor.is_complex() else tensor


def broadcast(*names: str) -> Callable[[Operands], tuple[Tensor, ...]]:
    """Return a reader of arguments, numbers among them, as tensors of one shape."""

    def read(a: Operands) -> tuple[Tensor, ...]:
        given = [torch.as_tensor(a[name]) for name in names]
        device = next((t.device for t in given if t.dim()), given[0].device)
        return torch.broadcast_tensors(*(t.to(device) for t in given))

    return read
