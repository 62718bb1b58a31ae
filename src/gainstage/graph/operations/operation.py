"""One kind of node: its arguments, how to compute it again, where it fails, what it is like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import Tensor

from gainstage.facts.fault import Dispersion, Hazard

POSITIVE: Final = "min=1e-8"
"""Arguments of `clamp` that keep a value above 0."""

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


Moves = Literal[
    "whole",  # all values of its one input, in another shape, dtype or memory
    "part",  # one part of its one input
    "parts",  # its one input, cut into several outputs
    "join",  # several inputs, put together
    "either",  # each value of one of two inputs
    "pick",  # values of its input, chosen, repeated or reordered one by one
    "overwrite",  # its input, with other values in some places
]
"""Where an output holds nothing but values of the inputs: which of them."""
ONE_SOURCE: Final = ("whole", "part", "parts")
"""Where the output is a view or a copy of one input, so that this is still the same operand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationKind:
    """All that is known of one kind of node: an entry is all that a new operation takes.

    What is left out is not known, or does not hold.
    """

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
    results: tuple[str, ...] = ("result",)
    """Names under which results are saved, where arguments are not."""
    compose: Callable[[Operands], Tensor] | None = None
    """Puts the first argument of a decomposition together again from its results."""
    recover: Callable[[Tensor], Tensor] | None = None
    """Computes the only argument from the result, for kinds that save nothing else."""
    variadic: bool = False
    """Whether its edges are the members of one list, `tensors`."""

    domain: tuple[Domain, ...] = ()
    makes: str = "nan inf"
    """Which non-finite values it can make of finite ones."""
    singular: Callable[[Operands], bool] | None = None
    """Tells from the settings whether the derivative can be infinite; None where it never is."""
    hazard: Hazard | None = None
    """How it gets out of its domain: what the repair of a fault depends on."""
    clamp: str | None = None
    """Arguments of `clamp` that keep its argument within its domain: `min=1e-8`."""
    pole: float | None = None
    """Value of its argument at which it is -inf, for logarithms."""

    moves: Moves | None = None
    """Which values of its inputs its output consists of; None where it computes new ones."""
    casts: bool = False
    """Whether its output may have another dtype."""
    transposes: bool = False
    reshapes: bool = False
    """Whether its output has another shape, with the elements in the same order."""
    masks: bool = False
    """Whether it puts a constant of the user's in place of elements."""
    takes_masks: bool = False
    """Whether people add -inf on purpose to what goes in."""
    drops_values: bool = False
    """Whether a value that goes in may have no share in what comes out."""
    bounds_below: bool = False
    """Whether it can keep a value from becoming smaller than a bound."""

    adds: Literal["sum", "difference", "complement"] | None = None
    """Whether it is a sum or difference of two arguments; a complement is such as `1 - x`."""
    scales: Literal["product", "quotient"] | None = None
    """Whether it multiplies or divides element by element."""
    negates: bool = False
    power: Literal["any", "root", "inverse", "inverse-root"] | None = None
    """Which power of its argument it is; `any` where an exponent says so."""
    accumulates: bool = False
    """Whether one element of the result may add up all of the argument."""
    reduction: Literal["sum", "mean"] | None = None
    dispersion: Dispersion | None = None
    """Whether it measures how far values lie apart: a deviation, or a norm."""
    factors: tuple[str, ...] = ()
    """Of a matrix product or convolution: the arguments that may be a weight."""
    bias: str | None = None
    """Of a product: the argument that is added to it."""
    convolves: bool = False
    """Whether it is a convolution that saves its strides and groups."""
    is_matrix_function: bool = False
    """Whether it is a function of a whole matrix, such as its inverse or determinant."""

    normalizes: bool = False
    """Whether it is a normalisation layer."""
    batch_statistics: bool = False
    """Whether it normalises by statistics of the batch."""
    activation: str | None = None
    """The activation function that it is, by the name under which weights are initialised."""
    is_dropout: bool = False
    before_activation: bool = False
    """Whether it may stand between a layer and the layer's activation."""
    fused_recurrent: Literal["mkldnn", "cudnn", "miopen", "mps"] | None = None
    """Where it is a recurrence over all time steps: whose layout it saves its operands in."""
    takes_data: bool = False
    """Whether its untracked arguments are data of the batch, rather than constants."""

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
    pole: float | None = None,
    activation: str | None = None,
    negates: bool = False,
    power: Literal["root", "inverse", "inverse-root"] | None = None,
) -> OperationKind:
    """Return the operation of a function of one tensor without settings."""
    return OperationKind(
        op=op,
        forward=lambda a: function(a["self"]),
        domain=domain,
        makes=makes,
        singular=singular,
        recover=recover,
        hazard=hazard,
        clamp=clamp,
        pole=pole,
        activation=activation,
        negates=negates,
        power=power,
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
