"""The first wrong operation of a step, and the place in the user's code where it stands."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from gainstage.facts.fault_text import fault_text
from gainstage.facts.ranges import Step

Phase = Literal["input", "forward", "loss", "backward", "optimizer"]
FaultKind = Literal[
    "domain",  # an operation left its domain: log of 0, 0/0
    "overflow",  # finite inputs, a result beyond the dtype's largest value
    "singular-derivative",  # a finite result whose derivative is not: sqrt at 0
    "input",  # the batch itself is not finite
    "target",
    "constant",  # an operand that autograd does not track
    "parameter",  # a weight was not finite before the step began
    "update",  # gradients finite, what the optimizer wrote is not
    "unknown",
]
FaultReason = Literal[
    "outside-domain",  # `domain` says in the operation's own words how
    "masked-to-inf",  # all that it took in was set to inf by a mask
    "nan-of-inf",  # an inf went in, NaN came out: inf - inf, 0 × inf
    "overflow",  # beyond the largest value of `dtype`
    "overflow-inside",  # inf - inf between what it adds up inside
    "nan",  # NaN of finite arguments, nobody knows why
    "opaque",  # what the operation does inside is not in the graph
    "nonfinite-operand",  # an argument that autograd does not track was NaN or inf
    "nonfinite-parameter",
    "derivative-infinite",
    "derivative-overflow",  # float64 would hold the derivative
    "derivative-of-equal-values",  # of a decomposition
    "custom-backward",  # the backward pass of the script's own autograd function
    "gradient-overflow",  # a product of finite numbers on the way back
    "gradient-nan",
    "update",
    "unexplained-loss",
    "unexplained-gradient",
]
Hazard = Literal[
    "logarithm",  # a pole at 0
    "root",  # an infinite derivative at 0
    "within-one",  # defined on [-1, 1]
    "from-one",  # defined from 1 on
    "power",
    "divisor",
    "exponential",
    "masked-row",  # a row of -inf leaves nothing to weigh
    "equal-values",  # singular values or eigenvalues that coincide
    "no-elements",
]
"""How an operation gets out of its domain or its dtype: what its repair depends on."""
NonfiniteValue = Literal["nan", "inf"]
Dispersion = Literal["deviation", "norm"]
"""A variance or standard deviation; a norm. Both are 0 where all values are equal or 0."""


@dataclass(frozen=True, slots=True)
class Site:
    """One place in the user's code that makes graph nodes."""

    op: str
    """torch's function name, such as `log`."""
    module: str | None = None
    """As in `named_modules()`; None outside of any module's call."""
    function: str | None = None
    """The user's function that holds the line."""
    file: str | None = None
    """Absolute path of the user's file."""
    line: int | None = None
    adds: bool | None = None
    """Whether the operation is a sum of two arguments; None where that was not recorded."""
    keeps_values: bool | None = None
    """Whether its output holds its input's values and no others: a view, a cast, a copy."""


@dataclass(frozen=True, slots=True)
class Share:
    """So many elements of so many."""

    count: int
    elements: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultEvidence:
    """What the autopsy measured. None, or False, is what it did not measure or does not apply."""

    reason: FaultReason | None = None
    domain: str | None = None
    """How the operation left its domain, in its own words: `log of 0`. For people only."""
    share: Share | None = None
    """The offending elements, of the tensor that tells most of the samples."""
    smallest_positive: float | None = None
    """Smallest positive value of the argument elsewhere."""
    value: NonfiniteValue | None = None
    """What the operation gave out."""
    dtype: str | None = None
    """torch's name of the dtype whose range was left, without the prefix."""
    largest_finite: float | None = None
    """The largest value of that dtype."""
    elements: int | None = None
    """Of the result."""
    nonfinite: int | None = None
    """Elements of the result, or of the operand, that are NaN or inf."""
    largest_input: dict[str, float] | None = None
    """By argument, its largest finite magnitude."""
    float64_finite: bool | None = None
    """Whether the same operation is finite in float64."""
    largest_float64: float | None = None
    """Largest magnitude that it reaches there."""
    argument_unsaved: bool = False
    """Whether the domain was inferred from the result, for the argument was not saved."""

    normalizes: bool = False
    """Whether the operation is a normalisation layer."""
    hazard: Hazard | None = None
    """How operations of this kind get out of their domain."""
    clamp: str | None = None
    """Arguments of `clamp` that keep the operation's argument within: `min=1e-8`."""
    dispersion: Dispersion | None = None
    """Where the operation itself measures how far values lie apart."""
    divisor: Dispersion | None = None
    """Where the operation divides by such a measure, also one that is written by hand."""
    operands: dict[str, str] | None = None
    """By argument, the operation that made it."""
    brought_in: bool = False
    """Whether what overflows came from an argument that autograd does not track."""

    operand: str | None = None
    """The argument that autograd does not track and that was not finite as it entered."""
    operand_shape: tuple[int, ...] | None = None
    operand_value: NonfiniteValue | None = None
    fills: Literal["whole", "samples", "features", "elements"] | None = None
    """What the offending elements of the operand fill; the first dimension counts samples."""
    first: tuple[int, ...] | None = None
    """Index of the first of them."""
    raw: str | None = None
    """Variable that holds a finite tensor of the operand's size."""
    state: str | None = None
    """Buffer of a module that is not finite."""
    state_dtype: str | None = None
    batch_size: int | None = None

    is_hidden: bool = False
    """Whether the value is hidden from the loss, though not from its gradient."""
    hidden_by: str | None = None
    """The operation that hides it."""
    argument: str | None = None
    """The argument whose derivative is not finite."""
    at: float | None = None
    """Its first offending value."""
    at_imaginary: float | None = None
    nonfinite_gradients: int | None = None
    """Parameters whose gradient is not finite."""
    gradients: int | None = None
    """Parameters that have one."""
    explained: int | None = None
    """Of those that are not finite, how many lie before the operation."""
    largest_gradient_bits: float | None = None
    """log2 of the largest magnitude of the gradient that went in."""

    second_moment: str | None = None
    """State of the optimizer that is 0 in `zero_second_moments` of the elements it spoiled."""
    zero_second_moments: int | None = None
    no_backward: bool = False
    """Whether the script stopped at the loss, so that no row holds it."""

    def as_json(self) -> dict[str, Any]:
        """Return what was measured, in JSON's types."""
        return {
            each.name: dataclasses.asdict(value) if isinstance(value, Share) else value
            for each in dataclasses.fields(self)
            if (value := getattr(self, each.name)) != each.default
        }


@dataclass(frozen=True, slots=True)
class Fault:
    """The first wrong operation of a step, as the autopsy found it."""

    step: Step
    kind: FaultKind
    phase: Phase
    site: Site
    evidence: FaultEvidence = field(default_factory=FaultEvidence)
    parameter: str | None = None
    time_step: int | None = None
    samples: tuple[int, ...] | None = None
    """Positions in the batch."""
    chain: tuple[Site, ...] = ()
    """From the culprit to the loss, or to the parameters."""

    @property
    def text(self) -> str:
        """What went wrong, in one sentence for people."""
        return fault_text(self.site.op, self.evidence, self.parameter)

    def as_json(self) -> dict[str, Any]:
        """Return a line of `faults.jsonl`, with the sentence for people."""
        return {
            **dataclasses.asdict(self),
            "evidence": self.evidence.as_json(),
            "message": self.text,
        }
