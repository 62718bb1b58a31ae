"""Plain data that travels between rooms. Imports NumPy and the standard library only."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Severity = Literal["info", "warning", "critical"]
Verdict = Literal["healthy", "at-risk", "failed"]

FINDINGS_SCHEMA = "gainstage.findings/1"
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One watched parameter: a column of `grad_norms`."""

    name: str
    """As in `named_parameters()`, or the variable that holds it."""
    module: str | None
    """As in `named_modules()`; None where no module owns the parameter."""
    shape: tuple[int, ...]
    dtype: str
    """torch's name without the prefix, such as `float32`."""

    @property
    def numel(self) -> int:
        """Return the number of elements."""
        product = 1
        for size in self.shape:
            product *= size
        return product


@dataclass(frozen=True, slots=True)
class StepBlock:
    """Consecutive optimizer steps, one array entry a step, in float64 unless said otherwise.

    NaN in `loss` is a loss that was NaN only where `has_loss`; the same holds for `grad_norms`
    with `present`. `max_norm` and `clip_coefficient` are NaN where nothing was clipped.
    """

    step: NDArray[np.int64]
    time: NDArray[np.float64]
    """Seconds since the epoch."""
    loss: NDArray[np.float64]
    has_loss: NDArray[np.bool_]
    lr: NDArray[np.float64]
    grad_norm: NDArray[np.float64]
    """2-norm of all gradients together, unscaled, before clipping; NaN where there is none."""
    max_norm: NDArray[np.float64]
    clip_coefficient: NDArray[np.float64]
    skipped: NDArray[np.int64]
    """Steps that a loss scaler left out since the row before; -1: a treatment left out this one."""
    grad_norms: NDArray[np.float32]
    """Shape (steps, tensors): the 2-norm of each gradient. inf or NaN only if an element is."""
    present: NDArray[np.bool_]
    """Shape (steps, tensors): False where the step had no gradient for the tensor."""

    def __len__(self) -> int:
        return len(self.step)


@dataclass(frozen=True, slots=True)
class WeightBlock:
    """Sampled 2-norms of the parameters themselves, read before the optimizer's step."""

    step: NDArray[np.int64]
    weight_norms: NDArray[np.float32]
    """Shape (samples, tensors); NaN where a weight holds one, inf likewise."""
    present: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.step)


@dataclass(frozen=True, slots=True)
class ProfileBlock:
    """Sampled levels of one or more steps' graphs: one entry a node, in forward order.

    Bits are log2; NaN where a level could not be measured, -inf for a tensor of zeros, inf where
    it holds an inf or NaN. Deltas are the gradients of the loss, unscaled.
    """

    step: NDArray[np.int64]
    backward: NDArray[np.int32]
    """Which backward call of the step, from 0."""
    node: NDArray[np.int32]
    """Place in the forward order of the step's graph."""
    site: NDArray[np.int32]
    """Index into the sites; -1 where the node matches none."""
    weight: NDArray[np.int32]
    """Column of the weight matrix or kernel that enters here, else -1: such a node is a layer."""
    forward_bits: NDArray[np.float32]
    """Level of what the node put out: log2 of its root mean square."""
    forward_max_bits: NDArray[np.float32]
    """log2 of its largest magnitude."""
    delta_bits: NDArray[np.float32]
    """Level of the loss's gradient with respect to what the node put out."""
    delta_max_bits: NDArray[np.float32]
    headroom_bits: NDArray[np.float32]
    """Bits that the larger of both is below its dtype's largest value, loss scale included."""

    def __len__(self) -> int:
        return len(self.step)


@dataclass(frozen=True, slots=True)
class TimeBlock:
    """Levels along recurrences of sampled graphs: one entry a state of a sequence.

    Bits as in `ProfileBlock`. A series is one state of one recurrence: of one layer, direction and
    call; those of a step are numbered from 0.
    """

    step: NDArray[np.int64]
    series: NDArray[np.int32]
    site: NDArray[np.int32]
    """Index into the sites, of the operation that makes the state; -1 where it matches none."""
    layer: NDArray[np.int32]
    """Within a fused layer's node; 0 otherwise."""
    reverse: NDArray[np.int32]
    """1 where step 0 is the sequence's end."""
    depth: NDArray[np.int32]
    """1 for a block that was applied again and again: a recurrence through depth, not time."""
    time_step: NDArray[np.int32]
    """In the order of computation."""
    hidden_bits: NDArray[np.float32]
    delta_bits: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.step)


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


@dataclass(frozen=True, slots=True)
class Fault:
    """The first wrong operation of a step, as the autopsy found it."""

    step: int
    kind: FaultKind
    phase: Phase
    site: Site
    message: str
    """One sentence with the values in it."""
    parameter: str | None = None
    time_step: int | None = None
    samples: tuple[int, ...] | None = None
    """Positions in the batch."""
    chain: tuple[Site, ...] = ()
    """From the culprit to the loss, or to the parameters."""
    evidence: dict[str, Any] = field(default_factory=dict[str, Any])


BY_HAND = ("code-change", "fix-data")
"""Remedies of a diagnosis that say what a person is to do."""

ObservationKind = Literal[
    "optimizer",  # made: class and settings
    "optimizer-step",  # first step: where
    "clip",  # first clipping call: where, limit, how many of the parameters
    "clip-after-step",  # a clipping call between a step and the next backward call
    "clip-scaled",  # a clipping call on gradients that still hold the loss scale
    "clip-partial",  # clipping calls that leave out gradients which the optimizer steps with
    "clip-nothing",  # a clipping call before a step that was given nothing with a gradient
    "clip-duplicates",  # a clipping call that was given a parameter more than once
    "batch-norm",  # statistics of a batch norm that come from few values: how many
    "log-near-zero",  # the smallest argument of a logarithm, each time it is half a bit smaller
    "loss",  # what backward is called on: operation, reduction, elements
    "accumulation",  # several backward calls for one step: how many, and whether divided
    "gradient-not-zeroed",  # gradients of an earlier step are still there as backward begins
    "backward",  # first backward call: where
    "parameters-unheld",  # get gradients, made after the optimizer and in none: how many, which
]


@dataclass(frozen=True, slots=True)
class Observation:
    """Something that the script does: not a symptom, but evidence for one or for a cause."""

    kind: ObservationKind
    step: int
    """The optimizer step to come when it was seen."""
    file: str | None = None
    line: int | None = None
    evidence: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Symptom:
    """One thing seen in the record, said once and brought up to date while it lasts."""

    symptom: str
    """An id of docs/findings.md, such as `gradient-growth`."""
    severity: Severity
    step: int
    """The first step at which it was seen."""
    message: str
    """One sentence with the numbers in it."""
    evidence: dict[str, Any] = field(default_factory=dict[str, Any])
    """Numbers behind the message; always `last_step` and `count`. JSON types only."""

    def as_json(self) -> dict[str, Any]:
        """Return the symptom as the findings contract writes it."""
        return {
            "symptom": self.symptom,
            "severity": self.severity,
            "step": self.step,
            "message": self.message,
            "evidence": self.evidence,
        }


_STREAM_ADDS = 4


@dataclass(frozen=True)
class RankRecord:
    """All that is known of one process that trained, and what the detectors saw in it."""

    tensors: tuple[TensorInfo, ...]
    block: StepBlock
    weights: WeightBlock
    profiles: ProfileBlock
    times: TimeBlock
    sites: tuple[Site, ...]
    faults: tuple[Fault, ...]
    observations: tuple[Observation, ...]
    symptoms: tuple[Symptom, ...] = ()
    rank: int = 0
    loss_site: Site | None = None
    """Where the loss was made, as the graph of the first backward call tells."""
    stream_adds: int = 0
    """Sums of two tracked values within modules in that graph: additions to a residual stream."""
    by_kind: dict[ObservationKind, list[Observation]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Sort the observations."""
        found: dict[ObservationKind, list[Observation]] = {}
        for each in self.observations:
            found.setdefault(each.kind, []).append(each)
        object.__setattr__(self, "by_kind", found)

    @property
    def fault(self) -> Fault | None:
        """The first wrong operation, if there was one."""
        return self.faults[0] if self.faults else None

    @property
    def has_stream(self) -> bool:
        """Tell whether sums within the model carry a residual stream; a recurrence's are none."""
        return self.stream_adds >= _STREAM_ADDS and not len(self.times)

    def first(self, kind: ObservationKind) -> Observation | None:
        """Return the first observation of a kind."""
        return self.by_kind.get(kind, [None])[0]

    def symptom(self, name: str) -> Symptom | None:
        """Return a symptom by its id."""
        return next((each for each in self.symptoms if each.symptom == name), None)

    @property
    def alarm_step(self) -> int | None:
        """The first step with a symptom worse than a note, or a fault."""
        steps = [s.step for s in self.symptoms if s.severity != "info"]
        return min([*steps, *(fault.step for fault in self.faults)], default=None)

    @property
    def failure_step(self) -> int | None:
        """The first step at which something was not finite."""
        steps = [s.step for s in self.symptoms if s.symptom.endswith("nonfinite")]
        return min([*steps, *(fault.step for fault in self.faults)], default=None)


TrialOutcome = Literal[
    "waiting",
    "running",
    "finished",  # to the script's own end
    "dead",  # its losses stayed non-finite
    "behind",  # worse than half of the others at equal steps
    "crashed",  # the script ended with an error
    "timeout",
    "lost",  # the machine that ran it went away
    "stopped",  # by the user
]


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of the unmodified script, treated or as it is (the baseline): what came of it."""

    name: str
    """Of its folder."""
    treat: tuple[str, ...] = ()
    """As `run --treat` takes them; empty for the baseline."""
    why: str = ""
    outcome: TrialOutcome = "waiting"
    steps: int = 0
    """Steps in its record."""
    loss: float = math.nan
    """Median of the last recorded losses; NaN where there is none."""
    final_loss: float | None = None
    """What the script printed as `final_loss=`; None where it prints none."""
    seconds: float = 0.0
    exit: int | None = None
    note: str = ""

    @property
    def reported_loss(self) -> float:
        """Return the loss to report: the script's own word, else the record's."""
        return self.loss if self.final_loss is None else self.final_loss

    def as_json(self) -> dict[str, Any]:
        """Return the trial as `gainstage prescribe --json` prints it."""
        return {
            "name": self.name,
            "treat": list(self.treat),
            "why": self.why,
            "outcome": self.outcome,
            "steps": self.steps,
            "loss": self.loss,
            "final_loss": self.final_loss,
            "seconds": round(self.seconds, 1),
            "exit": self.exit,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class Prescription:
    """What the trials of a script's treatments have shown."""

    folder: str
    """Where the records of all trials are."""
    baseline: Trial
    verdict: Verdict
    """Of the baseline."""
    cause: str | None
    trials: tuple[Trial, ...]
    best: dict[str, Any] | None
    """The winner as the contract writes it; None where nothing helped."""
    said: str
    """The outcome in one sentence."""
    diff: str | None = None
    """The winner as a unified diff of the user's source."""
    diff_final_loss: float | None = None
    """At which the script ended with that diff; None where it was not run."""
    instruction: str | None = None
    """What to do by hand, where there is no safe edit of the winner."""
    code_change: str | None = None
    """What to change in code or data to take the cause away, which no treatment can."""
    is_interrupted: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the object that `gainstage prescribe --json` prints."""
        return {
            "baseline": {
                **self.baseline.as_json(),
                "verdict": self.verdict,
                "cause": self.cause,
            },
            "trials": [trial.as_json() for trial in self.trials],
            "best": self.best,
            "diff": self.diff,
            "diff_final_loss": self.diff_final_loss,
            "said": self.said,
            "instruction": self.instruction,
            "code_change": self.code_change,
            "folder": self.folder,
        }


@dataclass(frozen=True, slots=True)
class Findings:
    """What a run's record says: the contract `gainstage.findings/1`."""

    steps: int
    verdict: Verdict
    symptoms: tuple[Symptom, ...]
    diagnosis: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the object that `gainstage report --json` prints."""
        return {
            "schema": FINDINGS_SCHEMA,
            "steps": self.steps,
            "verdict": self.verdict,
            "symptoms": [symptom.as_json() for symptom in self.symptoms],
            "diagnosis": self.diagnosis,
        }
