"""Everything that a diagnosis is made from: the record of one process."""

from __future__ import annotations

from dataclasses import dataclass, field

from gainstage.records import (
    Fault,
    Observation,
    ObservationKind,
    ProfileBlock,
    Site,
    StepBlock,
    Symptom,
    TensorInfo,
    TimeBlock,
    WeightBlock,
)


@dataclass(frozen=True)
class Case:
    """The record of a process, and what the detectors saw in it."""

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
