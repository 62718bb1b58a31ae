"""The gain ledger of a few steps: levels and gains of every layer, and what they foretell.

Plain data: `gain_ledger` makes it of a record, `show.ledger` prints it. All levels are in bits.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from gainstage.detect.symptom_json import symptom_json
from gainstage.facts.symptom import Symptom

CHECK_SCHEMA = "gainstage.check/1"
Way = Literal["forward", "backward"]
_FLOATS = frozenset(
    {"rms", "expected_rms", "excess_bits", "largest", "error", "lr", "max_stable_lr"}
)


@dataclass(frozen=True, slots=True)
class InitialWeight:
    """How a weight was found initialised, beside what would keep levels."""

    name: str
    shape: tuple[int, ...]
    distribution: str
    """`normal`, `uniform`, `orthogonal`, `constant`, `other` or `unknown`."""
    rules: tuple[str, ...]
    """Every named rule that gives such values, as `analysis.initial_scale` names them."""
    rms: float
    activation: str | None = None
    """What follows, as the graph shows; None where the weight is no factor of a product."""
    is_recurrent: bool = False
    expected_rms: float | None = None
    """What would suit that activation; None where that is not known."""
    excess_bits: float | None = None
    """log2(rms / expected_rms)."""


@dataclass(frozen=True, slots=True)
class NormBatch:
    """A batch norm that took its statistics from the batch."""

    module: str | None
    batch: int
    values: int
    """That one channel's statistics are made of: the batch times all positions."""
    node: int
    """Place in the forward order of the graph."""


@dataclass(frozen=True, slots=True)
class Sharpness:
    """The largest eigenvalue of the loss's Hessian, against the learning rate in use."""

    largest: float | None
    """None where it was not measured."""
    error: float | None = None
    """Bound of the error of `largest`."""
    products: int = 0
    """Hessian-vector products that it took."""
    is_preconditioned: bool = False
    """Whether it is the Hessian as Adam sees it."""
    optimizer: str | None = None
    lr: float | None = None
    max_stable_lr: float | None = None
    """Above it the optimizer found diverges on a quadratic loss of this sharpness."""
    is_judged: bool = False
    """Whether a learning rate beyond the limit is trouble."""
    note: str | None = None
    """Why something is missing, in words."""


@dataclass(frozen=True, slots=True)
class CheckReadings:
    """What a check reads besides the record of a run: taken from live tensors, once."""

    weights: tuple[InitialWeight, ...]
    norms: tuple[NormBatch, ...]
    sharpness: Sharpness

    @staticmethod
    def of_json(parsed: dict[str, Any]) -> CheckReadings:
        """Return readings that were written as JSON.

        Raises:
            KeyError: If a part is missing.
            TypeError: If a part has other fields.
        """
        for each in (weights := _numbers(parsed["weights"])):
            each.update(shape=tuple(each["shape"]), rules=tuple(each["rules"]))
        return CheckReadings(
            tuple(InitialWeight(**each) for each in weights),
            tuple(NormBatch(**each) for each in parsed["norms"]),
            Sharpness(**_numbers([parsed["sharpness"]])[0]),
        )


@dataclass(frozen=True, slots=True)
class LayerGain:
    """One layer: a weight matrix or kernel, at its place in the forward order."""

    name: str
    """Of the weight."""
    op: str | None
    uses: int
    """How often the weight was used; levels are the medians over its uses."""
    forward_bits: float
    forward_max_bits: float
    forward_gain_bits: float
    """Forward level minus that of the layer before; NaN for the first."""
    delta_bits: float
    delta_max_bits: float
    backward_gain_bits: float
    """Level of the delta minus that of the layer after, from which it came; NaN for the last."""
    initial: InitialWeight | None


@dataclass(frozen=True, slots=True)
class DepthLimit:
    """Where a number format ends, at the slopes found."""

    dtype: str
    way: Way | None
    """None where it is not reached."""
    layers: float
    """Layers in all at which it overflows, counted in the direction of travel; inf for never."""
    layer: str | None
    """The layer there is already whose level is beyond the format."""


@dataclass(frozen=True, slots=True)
class RecurrentGain:
    """Growth of the delta along one state of a recurrence."""

    module: str | None
    layer: int
    time_steps: int
    slope_bits: float
    """Bits a time step, on the way back."""
    time_steps_to_overflow: dict[str, float]
    """By dtype, the length of a sequence that would; inf where deltas do not grow."""
    memory_horizon: float
    """Time steps until a delta has fallen by 24 bits; inf where it does not fall."""


@dataclass(frozen=True)
class GainLedger:
    """What one or a few steps show of a network's gains, at the last of them."""

    steps: int
    loss: float | None
    layers: tuple[LayerGain, ...]
    forward_slope_bits: float
    """Theil-Sen's, bits a layer; NaN with fewer than four layers."""
    backward_slope_bits: float
    limits: tuple[DepthLimit, ...]
    recurrences: tuple[RecurrentGain, ...]
    weights: tuple[InitialWeight, ...]
    """In forward order, those that are no layers last."""
    norms: tuple[NormBatch, ...]
    sharpness: Sharpness
    symptoms: tuple[Symptom, ...]
    """What the detectors see in these steps."""
    troubles: tuple[str, ...]
    """What is foretold, in words, the worst first; empty where all is well."""

    @property
    def crossover(self) -> float:
        """Factor on all weights at which the steeper slope would be 0 bits; NaN if unknown.

        Exact where activations are positively homogeneous, as ReLU is: a factor c on every weight
        adds log2(c) to the slope.
        """
        slopes = [s for s in (self.forward_slope_bits, self.backward_slope_bits) if s == s]
        return float(2.0 ** -max(slopes)) if slopes else float("nan")

    def as_json(self) -> dict[str, Any]:
        """Return the object that `gainstage check --json` prints."""
        return {
            "schema": CHECK_SCHEMA,
            "verdict": "trouble" if self.troubles else "healthy",
            "steps": self.steps,
            "loss": self.loss,
            "troubles": list(self.troubles),
            "forward_slope_bits": self.forward_slope_bits,
            "backward_slope_bits": self.backward_slope_bits,
            "crossover": self.crossover,
            "layers": [asdict(each) for each in self.layers],
            "limits": [asdict(each) for each in self.limits],
            "recurrences": [asdict(each) for each in self.recurrences],
            "weights": [asdict(each) for each in self.weights],
            "norms": [asdict(each) for each in self.norms],
            "sharpness": asdict(self.sharpness),
            "symptoms": [symptom_json(each) for each in self.symptoms],
        }


def _numbers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows whose numbers are floats again where JSON had strings for NaN and inf."""
    return [
        {
            key: float(value) if key in _FLOATS and isinstance(value, str) else value
            for key, value in row.items()
        }
        for row in rows
    ]
