"""The script as it is: the run that all trials are compared with."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gainstage.errors import ConfigError
from gainstage.facts.prescription import Trial
from gainstage.prescribe.executor import Job, command_of, end_process, start_process
from gainstage.prescribe.losses import losses_of, printed_final_loss
from gainstage.prescribe.request import PrescribeRequest
from gainstage.prescribe.trials import TrialScript, last_line

JobMaker = Callable[[Path, Sequence[str], Path, Path], Job]


@dataclass(frozen=True, slots=True)
class Baseline:
    """The untreated run, and what it took."""

    trial: Trial
    processors: float
    """That it kept busy on average: processor time over time."""


def job_maker(request: PrescribeRequest, arguments: Sequence[str]) -> JobMaker:
    """Return what makes the job of one run of the script, in today's environment."""
    script = [*(["-m"] if request.is_module else []), request.target, *arguments]
    environment = dict(os.environ)
    cwd = os.getcwd()

    def job_of(folder: Path, treat: Sequence[str], out: Path, err: Path) -> Job:
        command = command_of(sys.executable, folder, treat, script)
        return Job(tuple(command), cwd, environment, out, err)

    return job_of


def run_baseline(script: TrialScript, request: PrescribeRequest) -> Baseline:
    """Run the script untreated, on this machine.

    Raises:
        ConfigError: If it does not train.
    """
    waiting = Trial(name="00-baseline", why="the script as it is", outcome="running")
    request.on_change([waiting])
    began, used = time.monotonic(), os.times()
    code = _run(script.job(waiting.name, ()))
    seconds, after = time.monotonic() - began, os.times()
    trial = _judged(script, request, waiting, code, seconds)
    request.on_change([trial])
    computed = sum(after[2:4]) - sum(used[2:4])
    return Baseline(trial, computed / max(seconds, 1e-3))


def _run(job: Job) -> int:
    process = start_process(job)
    try:
        return process.wait()
    except BaseException:
        end_process(process)
        raise


def _judged(
    script: TrialScript, request: PrescribeRequest, trial: Trial, code: int, seconds: float
) -> Trial:
    """Return the baseline with what came of it."""
    losses = losses_of(script.run_folder(trial.name))
    note = last_line(script.output(trial.name, "err")) if code else ""
    if losses.steps == 0:
        raise ConfigError(
            f"{request.target} ended with exit code {code} before it made a step"
            + (f": {note}" if note else "; there is no training to treat")
        )
    return Trial(
        name=trial.name,
        why=trial.why,
        outcome="crashed" if code else "dead" if losses.is_dead else "finished",
        steps=losses.steps,
        loss=losses.level(),
        final_loss=printed_final_loss(script.output(trial.name, "out")),
        seconds=round(seconds, 1),
        exit=code,
        note=note,
    )
