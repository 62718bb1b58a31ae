"""A repair that was tried: the baseline, its diagnosis, trials of treatments, and the winner."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gainstage.errors import ConfigError
from gainstage.facts.diagnosis import BY_HAND, Diagnosis
from gainstage.facts.prescription import Prescription, Trial
from gainstage.facts.record import RankRecord
from gainstage.facts.treatment_event import TreatmentState
from gainstage.prescribe.candidate import Candidate, candidate
from gainstage.prescribe.executor import (
    Executor,
    Job,
    LocalExecutor,
    command_of,
    end_process,
    processors_at_once,
    start_process,
)
from gainstage.prescribe.halving import Halving
from gainstage.prescribe.losses import Losses, is_finite, losses_of, printed_final_loss
from gainstage.prescribe.patch.code_changes import code_changes
from gainstage.prescribe.patch.diff import Patch, by_hand, patch_of
from gainstage.prescribe.rank_trials import TrialResult, has_helped, ranked, reports_its_loss
from gainstage.prescribe.search_space import distinct, facts_of, first_round, second_round
from gainstage.prescribe.seed import with_another_seed
from gainstage.prescribe.trials import Trials, TrialScript, last_line
from gainstage.store.folder import claim_folder
from gainstage.store.journal import write_json
from gainstage.store.reader import StoredRun, load

FIRST_SHARE = 2 / 3
"""Of the trials, for one of each kind; the rest goes to neighbours and combinations of the best."""
_FEW = 3
"""Trials up to which none is kept for running the diff."""
_WORTH_CUTTING_S = 30.0
"""Seconds of a run below which nobody is given up for standing behind: starting costs as much."""
_LONGEST_TRIAL = 4.0
"""Times the baseline's time, besides a minute."""
_LONGEST = 12.0
"""Times the baseline's time that all trials may take, or 5 minutes if that is more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PrescribeRequest:
    """What to prescribe for."""

    target: str
    """The script's path; a module's name where `is_module`."""
    path: Path
    """The file that runs."""
    arguments: tuple[str, ...] = ()
    is_module: bool = False
    trials: int = 12
    """At most, the confirmation among them; the baseline is not."""
    executor: Executor | None = None
    """None for processes of this machine."""
    workers: int | None = None
    """Trials at once; None for what the machine has room for."""
    on_change: Callable[[Sequence[Trial]], None] = lambda _: None
    """Is told of baseline and trials whenever one of them has changed."""

    def __post_init__(self) -> None:
        """Check the number of trials."""
        if self.trials < 1:
            raise ConfigError(f"--trials must be at least 1, got {self.trials}")


def prescribe(asked: PrescribeRequest) -> Prescription:
    """Run a script, find what is wrong with it, try treatments, and return what helped.

    Ctrl-C ends all trials; the prescription is then of what is known.

    Raises:
        ConfigError: If the script does not train.
        RunFolderError: If the records have no place.
    """
    folder = claim_folder(asked.target if asked.is_module else asked.path.name, "prescribe")
    script = TrialScript(folder=folder, job_of=_jobs(asked, asked.arguments))
    baseline, busy = _run_baseline(script, asked)
    run = load(script.run_folder(baseline.name))
    prescription = _prescribe(asked, script, baseline, run, busy)
    write_json(folder / "prescription.json", prescription.as_json())
    return prescription


def _prescribe(
    asked: PrescribeRequest, script: TrialScript, baseline: Trial, run: StoredRun, busy: float
) -> Prescription:
    findings = run.findings
    diagnosis = findings.diagnosis
    nothing = Prescription(
        folder=str(script.folder),
        baseline=baseline,
        verdict=findings.verdict,
        cause=None if diagnosis is None else diagnosis.cause,
        trials=(),
        best=None,
        said="the run is healthy: there is nothing to treat",
    )
    losses = losses_of(run.folder)
    if findings.verdict == "healthy" and not losses.is_dead and baseline.outcome == "finished":
        return nothing
    record = run.record(min(run.ranks, default=0))
    trials = Trials(
        script=script,
        executor=asked.executor or LocalExecutor(),
        at_once=asked.workers or processors_at_once(busy),
        limit_s=60.0 + _LONGEST_TRIAL * baseline.seconds,
        halving=Halving(losses.steps) if baseline.seconds > _WORTH_CUTTING_S else None,
        on_change=lambda rows: asked.on_change([baseline, *rows]),
    )
    is_unbounded = nothing.cause == "unbounded-objective"
    search = _Search(
        asked=asked,
        trials=trials,
        baseline=baseline,
        losses=losses,
        is_unbounded=is_unbounded,
        until=time.monotonic() + max(300.0, _LONGEST * baseline.seconds),
    )
    interrupted = False
    patch = None
    try:
        facts = facts_of(record)
        changes = () if asked.is_module else _code_changes(asked.path, record, diagnosis, script)
        first = [*changes, *first_round(diagnosis, facts, record)]
        search.run_rounds(first, lambda best: second_round(best, facts))
        if (best := search.best()) is not None:
            patch = search.proven(best, _patch(asked, script, best, record))
    except KeyboardInterrupt:
        interrupted = True
    finally:
        trials.executor.close()
    best = search.best()
    if best is not None and patch is None:
        patch = _patch(asked, script, best, record)
    return replace(
        nothing,
        trials=tuple(trials.rows),
        best=None if best is None else search.as_best(best),
        said=search.said(best, interrupted),
        diff=None if patch is None else patch.diff,
        diff_final_loss=None if patch is None else patch.final_loss,
        instruction=None if patch is None else patch.instruction,
        code_change=_code_change(diagnosis),
        is_interrupted=interrupted,
    )


@dataclass(kw_only=True)
class _Search:
    """The rounds of trials, the confirmation of who wins them, and the proof of its diff."""

    asked: PrescribeRequest
    trials: Trials
    baseline: Trial
    losses: Losses
    is_unbounded: bool
    """Whether the lowest loss is the most broken one."""
    until: float
    confirmation: TrialResult | None = None
    is_other_seed: bool = False
    _rejected: tuple[Candidate, ...] = ()
    """Those that cannot win: not confirmed, or the winner's own diff."""
    _verdicts: dict[str, str] = field(default_factory=dict[str, str])

    def run_rounds(
        self,
        first: Sequence[Candidate],
        second: Callable[[Sequence[Candidate]], list[Candidate]],
    ) -> None:
        """Run both rounds and confirm the winner, within the number of trials."""
        budget = self.asked.trials - sum(self._kept())
        begun = list(first[: max(1, round(FIRST_SHARE * budget))])
        self.trials.run(begun, until=self.until)
        while len(begun) < budget and time.monotonic() < self.until:
            further = second([each.candidate for each in self._ranked()])
            rest = [each for each in distinct([*begun, *further, *first]) if each not in begun]
            if not rest:
                break
            # As many as run at once: what comes of them says where to look next.
            now = rest[: min(self.trials.at_once, budget - len(begun))]
            self.trials.run(now, until=self.until)
            begun += now
        self._confirm(self.asked.trials - len(self.trials.rows) - self._kept()[1])

    def _kept(self) -> tuple[int, int]:
        """Return how many of the trials are kept for the confirmation, and for the diff."""
        return int(self.asked.trials > 1), int(self.asked.trials > _FEW and self._runs_texts())

    def _runs_texts(self) -> bool:
        """Tell whether a changed text of the script can be run in its stead."""
        return not self.asked.is_module

    def _ranked(self) -> list[TrialResult]:
        tried = [each for each in self.trials.tried if each is not self.confirmation]
        if self.is_unbounded:
            tried = [each for each in tried if self._is_bounded(each.trial)]
        helped = ranked(tried, self._yardstick(), self.losses.start())
        return [each for each in helped if each.candidate not in self._rejected]

    def _yardstick(self) -> Trial:
        """Return the baseline; as dead where its end is the value of what has no bound."""
        trials = [each.trial for each in self.trials.tried if is_finite(each.trial)]
        if self.is_unbounded and any(map(reports_its_loss, trials)):
            return replace(self.baseline, outcome="dead")
        return self.baseline

    def _is_bounded(self, trial: Trial) -> bool:
        """Tell whether a trial's loss can be compared: another quantity, or one that behaves."""
        if not is_finite(trial) or not reports_its_loss(trial):
            return True
        if trial.name not in self._verdicts:
            run = load(self.trials.script.run_folder(trial.name))
            self._verdicts[trial.name] = run.findings.verdict
        return self._verdicts[trial.name] == "healthy"

    def _confirm(self, left: int) -> None:
        """Run the winner once more, with another seed where there is one; else take the next."""
        best, asked = self.best(), False
        arguments = with_another_seed(self.asked.path, self.asked.arguments)
        # Once whatever the time is: a winner that won once may be luck.
        while best is not None and left > 0 and (not asked or time.monotonic() < self.until):
            asked = True
            own = self.trials.script
            if arguments is not None:
                self.is_other_seed = True
                self.trials.script = replace(own, job_of=_jobs(self.asked, arguments))
            how = "the repeat" if arguments is None else "the second seed"
            self.trials.halving = None
            again = replace(best.candidate, why=f"{how} of {best.trial.name}")
            done = self.trials.run([again], until=math.inf)
            self.trials.script = own
            self.confirmation = done[0] if done else None
            if not done or has_helped(done[0], self._yardstick(), self.losses.start()):
                return
            left -= 1
            if len(self._ranked()) < 2 or left < 1:
                return
            self._rejected = (*self._rejected, best.candidate, again)
            self.confirmation = None
            best = self.best()

    def proven(self, best: TrialResult, patch: Patch) -> Patch:
        """Run what the winner's diff makes of the script; without one if that does not help."""
        if patch.content is None or not self._runs_texts():
            return patch
        if best.candidate.remedy == "code-change":
            return replace(patch, final_loss=best.trial.reported_loss)
        if len(self.trials.rows) >= self.asked.trials:
            return patch
        text = self.trials.script.folder / "patched.py"
        text.write_bytes(patch.content)
        source = f"code-change:source={os.path.relpath(text)}"
        patched = candidate(source, why=f"the diff of {best.trial.name}")
        self._rejected = (*self._rejected, patched)
        (done,) = self.trials.run([patched], until=math.inf)
        if has_helped(done, self._yardstick(), self.losses.start()):
            return replace(patch, final_loss=done.trial.reported_loss)
        end = f"ended at {done.trial.reported_loss:.4g}" if is_finite(done.trial) else "failed"
        why = f"the edit was tried and {end}: {text.name} beside the records"
        return by_hand(best.candidate.specs, why)

    def best(self) -> TrialResult | None:
        """Return the winner so far."""
        return next(iter(self._ranked()), None)

    def is_confirmed(self) -> bool | None:
        """Return whether the winner won again, None if that was not tried."""
        if self.confirmation is None:
            return None
        return has_helped(self.confirmation, self._yardstick(), self.losses.start())

    def as_best(self, best: TrialResult) -> dict[str, Any]:
        """Return the winner as the contract writes it."""
        return {
            "remedy": best.candidate.remedy,
            "settings": best.candidate.settings(),
            "final_loss": best.trial.reported_loss,
            "why": best.candidate.why,
            "treat": list(best.candidate.treat),
            "trial": best.trial.name,
            "confirmed": self.is_confirmed(),
            "confirmed_by": None
            if self.confirmation is None
            else ("second seed" if self.is_other_seed else "repeat"),
        }

    def said(self, best: TrialResult | None, interrupted: bool) -> str:
        """Return the outcome in one sentence."""
        end = "; interrupted, so this is what is known" if interrupted else ""
        count = len(self.trials.rows)
        if best is None:
            return f"none of {count} trials ended better than the run as it is{end}"
        how = {
            True: "confirmed by " + ("a second seed" if self.is_other_seed else "a repeat"),
            False: "but not when run again with "
            + ("a second seed" if self.is_other_seed else "the same"),
            None: "not confirmed by another run",
        }[self.is_confirmed()]
        loss = best.trial.reported_loss
        return f"{best.candidate.in_words} ends at {loss:.4g}, {how}{end}"


def _code_changes(
    path: Path, record: RankRecord, diagnosis: Diagnosis | None, script: TrialScript
) -> list[Candidate]:
    """Return changes of the script's code to try, their texts written beside the trials."""
    if diagnosis is None:
        return []
    causes = {each.cause: each.confidence for each in (diagnosis, *diagnosis.alternatives)}
    found: list[Candidate] = []
    for number, change in enumerate(code_changes(path, record, causes), start=1):
        changed = script.folder / f"change-{number}.py"
        changed.write_bytes(change.content)
        found.append(candidate(f"code-change:source={os.path.relpath(changed)}", why=change.what))
    return found


def _code_change(diagnosis: Diagnosis | None) -> str | None:
    """Return what the diagnosis would have a person change."""
    remedies = () if diagnosis is None else diagnosis.remedies
    return next((each.why for each in remedies if each.remedy in BY_HAND), None)


def _patch(
    asked: PrescribeRequest, script: TrialScript, best: TrialResult, record: RankRecord
) -> Patch:
    journal = load(script.run_folder(best.trial.name)).treatments
    states = [each for each in journal if isinstance(each, TreatmentState)]
    details = [dict(each.details or {}) for each in states if each.event == "ended"]
    specs = best.candidate.specs
    if len(details) < len(specs):
        # A trial that forked has several journals' worth, one that was killed has none.
        details = [{} for _ in specs]
    return patch_of(specs, record, details[: len(specs)], asked.path)


def _jobs(
    asked: PrescribeRequest, arguments: Sequence[str]
) -> Callable[[Path, Sequence[str], Path, Path], Job]:
    script = [*(["-m"] if asked.is_module else []), asked.target, *arguments]
    environment = dict(os.environ)
    cwd = os.getcwd()

    def job_of(folder: Path, treat: Sequence[str], out: Path, err: Path) -> Job:
        command = command_of(sys.executable, folder, treat, script)
        return Job(tuple(command), cwd, environment, out, err)

    return job_of


def _run_baseline(script: TrialScript, asked: PrescribeRequest) -> tuple[Trial, float]:
    """Run the script untreated, here; return what came of it and how many processors it used."""
    trial = Trial(name="00-baseline", why="the script as it is", outcome="running")
    asked.on_change([trial])
    began, used = time.monotonic(), os.times()
    process = start_process(script.job(trial.name, ()))
    try:
        code = process.wait()
    except BaseException:
        end_process(process)
        raise
    seconds, after = time.monotonic() - began, os.times()
    losses = losses_of(script.run_folder(trial.name))
    note = last_line(script.output(trial.name, "err")) if code else ""
    if losses.steps == 0:
        raise ConfigError(
            f"{asked.target} ended with exit code {code} before it made a step"
            + (f": {note}" if note else "; there is no training to treat")
        )
    trial = replace(
        trial,
        outcome="crashed" if code else "dead" if losses.is_dead else "finished",
        steps=losses.steps,
        loss=losses.level(),
        final_loss=printed_final_loss(script.output(trial.name, "out")),
        seconds=seconds,
        exit=code,
        note=note,
    )
    asked.on_change([trial])
    computed = sum(after[2:4]) - sum(used[2:4])
    return trial, computed / max(seconds, 1e-3)
