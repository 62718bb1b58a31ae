"""The derivative of one operation at given arguments, by torch's own formula."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gainstage.graph.nodes.finite import nonfinite
from gainstage.graph.operations.operation import Operands, OperationKind


@dataclass(frozen=True, slots=True)
class Derivative:
    """The gradients of an operation's arguments for an incoming gradient of ones."""

    gradients: dict[str, Tensor]
    bad: dict[str, Tensor]
    """Masks of the elements that are not finite, of those arguments that have some."""
    outputs: Collection[int]
    """Which results had an incoming gradient."""


def derivative_of(
    operation: OperationKind, operands: Operands, tracked: Collection[str], outputs: Collection[int]
) -> Derivative | None:
    """Return the derivative for an incoming gradient of ones; None where it cannot be computed.

    Makes a graph of its own: call it through `run_isolated`, so that the sequence numbers stay.
    """
    if operation.forward is None:
        return None
    leaves: dict[str, Tensor] = {}
    arguments: dict[str, Any] = dict(operands)
    for name in tracked:
        value = arguments.get(name)
        if isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex()):
            leaves[name] = arguments[name] = value.detach().requires_grad_()
    try:
        with torch.enable_grad():
            given = operation.forward(arguments)
        results = [given] if isinstance(given, Tensor) else list(given)
        wanted = [results[i] for i in outputs if i < len(results) and results[i].requires_grad]
        if not wanted or not leaves:
            return None
        ones = [torch.ones_like(result) for result in wanted]
        gradients: Any = torch.autograd.grad(wanted, list(leaves.values()), ones, allow_unused=True)
    except (LookupError, RuntimeError, TypeError, ValueError, ArithmeticError, AttributeError):
        return None  # arguments are missing, or this build of torch cannot do it
    found = {n: g for n, g in zip(leaves, gradients, strict=True) if g is not None}
    bad = {name: nonfinite(gradient) for name, gradient in found.items()}
    return Derivative(found, {n: mask for n, mask in bad.items() if bool(mask.any())}, outputs)
