"""All that is known of one process that trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, cast

from gainstage.facts.blocks import ProfileBlock, StepBlock, TimeBlock, WeightBlock
from gainstage.facts.fault import Fault, Site
from gainstage.facts.observation import Observation, Observed
from gainstage.facts.symptom import Symptom, first_alarm, first_nonfinite
from gainstage.facts.tensor import TensorInfo

E = TypeVar("E", bound=Observed)

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
    observations: tuple[Observation[Observed], ...]
    symptoms: tuple[Symptom, ...] = ()
    rank: int = 0
    loss_site: Site | None = None
    """Where the loss was made, as the graph of the first backward call tells."""
    stream_adds: int = 0
    """Sums of two tracked values within modules in that graph: additions to a residual stream."""

    @property
    def fault(self) -> Fault | None:
        """The first wrong operation, if there was one."""
        return self.faults[0] if self.faults else None

    @property
    def has_stream(self) -> bool:
        """Tell whether sums within the model carry a residual stream; a recurrence's are none."""
        return self.stream_adds >= _STREAM_ADDS and not len(self.times)

    def first(self, kind: type[E]) -> Observation[E] | None:
        """Return the first observation of a kind."""
        return next(iter(self.observed(kind)), None)

    def observed(self, kind: type[E]) -> list[Observation[E]]:
        """Return all observations of a kind, in order."""
        return [
            cast("Observation[E]", each)
            for each in self.observations
            if isinstance(each.evidence, kind)
        ]

    def symptom(self, name: str) -> Symptom | None:
        """Return a symptom by its id."""
        return next((each for each in self.symptoms if each.symptom == name), None)

    @property
    def alarm_step(self) -> int | None:
        """The first step with a symptom worse than a note, or a fault."""
        steps = [first_alarm(self.symptoms), *(fault.step for fault in self.faults)]
        return min((step for step in steps if step is not None), default=None)

    @property
    def failure_step(self) -> int | None:
        """The first step at which something was not finite."""
        steps = [first_nonfinite(self.symptoms), *(fault.step for fault in self.faults)]
        return min((step for step in steps if step is not None), default=None)
