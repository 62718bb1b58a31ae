"""What the records of the corpus show, and what the detectors made of them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from benchmarks.corpus.case import Case
from benchmarks.corpus.play import TRUTH

import gainstage
from gainstage.facts.blocks import StepBlock
from gainstage.facts.findings import Findings
from gainstage.facts.symptom import first_alarm

_RUNAWAY = 100.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One case, judged."""

    case: Case
    settings: dict[str, Any]
    fault_step: int
    counts: bool
    """False where the fault did no harm, or a healthy training came to harm: left out of rates."""
    failure_step: int | None
    """The first step with a loss or gradient that is not finite."""
    findings: Findings

    @property
    def faulty(self) -> bool:
        """Tell whether a fault was built in."""
        return self.case.cause is not None and not self.case.control

    @property
    def alarmed(self) -> bool:
        """Tell whether the run was called anything but healthy."""
        return self.findings.verdict != "healthy"

    @property
    def diagnosed(self) -> bool:
        """Tell whether a cause was named."""
        return self.findings.diagnosis is not None

    @property
    def cause(self) -> str | None:
        """The cause that was named."""
        return None if self.findings.diagnosis is None else self.findings.diagnosis.cause

    @property
    def evidence(self) -> list[str]:
        """The rows of the evidence table behind the diagnosis."""
        diagnosis = self.findings.diagnosis
        return [] if diagnosis is None else [each.evidence for each in diagnosis.evidence]

    @property
    def alarm_step(self) -> int | None:
        """The first step with more than a note, in a run that was called sick."""
        return first_alarm(self.findings.symptoms) if self.alarmed else None

    @property
    def lead(self) -> int | None:
        """Steps between alarm and failure, for a run that failed."""
        if self.alarm_step is None or self.failure_step is None:
            return None
        return self.failure_step - self.alarm_step


def judge_all(cases: Sequence[Case], folder: Path) -> list[Outcome]:
    """Return the outcomes of all cases, whose records lie below `folder`."""
    return [judge(case, folder) for case in cases]


def judge(case: Case, folder: Path) -> Outcome:
    """Return the outcome of a case. Whether it came to harm is measured without any detector."""
    truth = json.loads((folder / case.name / TRUTH).read_text())
    run = gainstage.load(folder / case.name)
    block = run.block()
    start = _start(block)
    if case.cause is not None and not case.control:
        control = folder / Case(case.family, case.cause, case.seed, control=True).name
        start = min(start, _start(gainstage.load(control).block()))
    hurt = came_to_harm(block, start, has_target=case.cause is not None)
    faulty = truth["cause"] is not None
    return Outcome(
        case, truth["settings"], truth["fault_step"], hurt == faulty, failure(block), run.findings
    )


def came_to_harm(block: StepBlock, start: float, *, has_target: bool) -> bool:
    """Tell whether a training ended no better than untrained, not finite, or beyond all bounds.

    Args:
        block: Its record.
        start: The loss of the untrained network.
        has_target: False where the loss is no measure of success (a GAN, REINFORCE).
    """
    if failure(block) is not None:
        return True
    end = float(np.median(block.loss[block.has_loss][-10:]))
    if abs(end) > _RUNAWAY * max(abs(start), 1e-30):
        return True
    return has_target and end >= start


def failure(block: StepBlock) -> int | None:
    """Return the first step whose loss or gradient is not finite."""
    bad = (block.has_loss & ~np.isfinite(block.loss)) | (
        block.present & ~np.isfinite(block.grad_norms)
    ).any(axis=1)
    return int(block.step[bad][0]) if bad.any() else None


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95% interval of a rate. Source: Wilson (1927), JASA 22, 209-212."""
    if count == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.975)
    rate = hits / count
    middle = (rate + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
    half /= 1 + z * z / count
    return max(0.0, middle - half), min(1.0, middle + half)


def _start(block: StepBlock) -> float:
    losses = block.loss[block.has_loss & np.isfinite(block.loss)][:3]
    return float(np.median(losses)) if len(losses) else math.nan
