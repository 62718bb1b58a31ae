"""Something that the script does, seen once: one class for each kind of thing.

In JSON an observation is `{"kind", "step", "file", "line", "evidence": {...}}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, TypeVar

from gainstage.facts.ranges import OMIT, AtLeastOne, Count, Step

Reduction = Literal["none", "mean", "sum"]
Refusal = Literal["dispatches", "layout", "meta", "functional", "no-memory", "capturing", "share"]
"""Why a tensor is not read: its class computes in its own way, as `DTensor` does, and could start a
collective operation; it is sparse, nested or quantized; it has no numbers; a function transform
wraps it; its memory was let go, as FSDP does; its stream is being captured into a CUDA graph; or a
number is wanted of which this process has a share only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSettings:
    """Settings of an optimizer when it was made; None where its class has no such setting."""

    lr: float | None = field(default=None, metadata=OMIT)
    momentum: float | None = field(default=None, metadata=OMIT)
    betas: tuple[float | None, ...] | None = field(default=None, metadata=OMIT)
    eps: float | tuple[float | None, ...] | None = field(default=None, metadata=OMIT)
    """Adafactor has two of them."""
    weight_decay: float | None = field(default=None, metadata=OMIT)
    alpha: float | None = field(default=None, metadata=OMIT)
    nesterov: bool | None = field(default=None, metadata=OMIT)
    maximize: bool | None = field(default=None, metadata=OMIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerMade:
    """An optimizer is made."""

    kind: ClassVar[str] = "optimizer"
    class_name: str = field(metadata={"json": "class"})
    """Such as `AdamW`."""
    settings: OptimizerSettings = OptimizerSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerStepped:
    """An optimizer steps for the first time."""

    kind: ClassVar[str] = "optimizer-step"
    rates: AtLeastOne | None = field(default=None, metadata=OMIT)
    """Different learning rates of its groups, where there are several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipCalled:
    """The script clips gradients: its first call."""

    kind: ClassVar[str] = "clip"
    parameters: Count
    """Tensors that it is given."""
    max_norm: float | None = None
    ratio: float = 1.0
    """Always 1."""
    acts: bool = False
    """Whether this call scaled the gradients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipAfterStep:
    """A clipping call comes between a step and the next backward call."""

    kind: ClassVar[str] = "clip-after-step"
    parameters: Count
    """Tensors that it is given."""
    max_norm: float | None = None
    ratio: float = 1.0
    """Always 1."""
    acts: bool = False
    """Whether this call scaled the gradients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipScaled:
    """A clipping call is given gradients that still hold the loss scale."""

    kind: ClassVar[str] = "clip-scaled"
    parameters: Count
    """Tensors that it is given."""
    max_norm: float | None = None
    ratio: float = 1.0
    """The loss scale that the gradients hold."""
    acts: bool = False
    """Whether this call scaled the gradients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipDuplicates:
    """A clipping call is given a parameter more than once."""

    kind: ClassVar[str] = "clip-duplicates"
    parameters: Count
    """Tensors that it is given, each as often as it is given."""
    max_norm: float | None = None
    ratio: float = 1.0
    """The norm that the call computes over the norm with each tensor counted once."""
    acts: bool = False
    """Whether this call scaled the gradients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipPartial:
    """The clipping calls before a step leave out gradients that the optimizer steps with."""

    kind: ClassVar[str] = "clip-partial"
    parameters: Count
    """Tensors that are clipped and stepped."""
    stepped: Count
    """Tensors that are stepped."""
    max_norm: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipNothing:
    """A clipping call before a step is given nothing that has a gradient."""

    kind: ClassVar[str] = "clip-nothing"
    stepped: Count
    """Tensors that are stepped."""
    max_norm: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchNormOfFew:
    """A batch norm takes its statistics from few values."""

    kind: ClassVar[str] = "batch-norm"
    values: Count
    """Values for each channel."""
    batch: Count
    """Samples in the batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogNearZero:
    """The smallest argument of a logarithm, each time that it is half a bit smaller than before."""

    kind: ClassVar[str] = "log-near-zero"
    bits: float
    """-log2 of the argument."""
    limit_bits: float
    """-log2 of the smallest argument that the dtype tells from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossMade:
    """What the first backward call is called on, and how its value was put together."""

    kind: ClassVar[str] = "loss"
    node: str
    """The autograd node of the loss, such as `MeanBackward0`; empty for a leaf."""
    summed_elements: AtLeastOne = 1
    """Elements that are added up and not divided by their number; 1 for a mean."""
    reduction: Reduction | None = None
    """None where the graph does not show it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientsAccumulated:
    """Several backward calls add up for one step."""

    kind: ClassVar[str] = "accumulation"
    calls: AtLeastOne
    """Backward calls for this step when it was seen."""
    divided: bool = False
    """Whether the loss is divided, as for a mean over the calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientsNotZeroed:
    """Gradients of an earlier step are still there as a backward call adds to them."""

    kind: ClassVar[str] = "gradient-not-zeroed"
    tensors: Count
    """Tensors with such a gradient."""
    of: Count
    """Tensors that are stepped."""
    times: AtLeastOne = 1
    """How often it has been seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackwardCalled:
    """The script calls backward for the first time."""

    kind: ClassVar[str] = "backward"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParametersUnstepped:
    """Parameters get gradients, are in no optimizer, and were created after it."""

    kind: ClassVar[str] = "parameters-unheld"
    tensors: Count
    of: Count
    """Tensors of the network."""
    names: tuple[str, ...] = ()
    """The first few of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorsLeftOut:
    """Tensors were not read, for one reason: what the record says is without them."""

    kind: ClassVar[str] = "tensors-left-out"
    reason: Refusal
    count: Count
    """Reads that were left out, each tensor as often as it was to be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingRateChanged:
    """Samples have cost far more than their share of the time, and are taken more rarely since."""

    kind: ClassVar[str] = "sampling-rate"
    what: Literal["graphs", "weights"]
    interval: AtLeastOne
    """Steps between two samples from here on, about."""
    before: AtLeastOne
    """Steps between two samples until here."""


Observed = (
    OptimizerMade
    | OptimizerStepped
    | ClipCalled
    | ClipAfterStep
    | ClipScaled
    | ClipPartial
    | ClipNothing
    | ClipDuplicates
    | BatchNormOfFew
    | LogNearZero
    | LossMade
    | GradientsAccumulated
    | GradientsNotZeroed
    | BackwardCalled
    | ParametersUnstepped
    | TensorsLeftOut
    | SamplingRateChanged
)
OBSERVED: Mapping[str, type[Observed]] = {each.kind: each for each in Observed.__args__}
"""Every kind of observation by its name in JSON."""

E = TypeVar("E", bound=Observed, covariant=True)


@dataclass(frozen=True, slots=True)
class Observation(Generic[E]):
    """Something that the script does: not a symptom, but evidence for one or for a cause."""

    tag: ClassVar[str] = "kind"
    """Key in JSON that names the class of `evidence`."""
    kinds: ClassVar[Mapping[str, type[Any]]] = OBSERVED

    evidence: E
    step: Step
    """The optimizer step to come when it was seen."""
    file: str | None = None
    """Absolute path of the user's file."""
    line: int | None = None
