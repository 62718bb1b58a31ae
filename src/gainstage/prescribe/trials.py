"""Running trials: as many at once as there is room for, the dead and the hopeless cut short."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gainstage.facts.prescription import Trial, TrialOutcome
from gainstage.prescribe.candidate import Candidate
from gainstage.prescribe.executor import Ended, Executor, Job, Running
from gainstage.prescribe.halving import Halving
from gainstage.prescribe.losses import Losses, losses_of, printed_final_loss
from gainstage.prescribe.rank_trials import TrialResult

_LOOK_S = 0.1
"""Between two looks at whether a process has ended."""
_READ_S = 1.0
"""Between two reads of a running trial's record; at least ten times what a read takes."""
_MOST_LOSSES = 3
"""Of a machine under one trial."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialScript:
    """What is tried: the same command for all trials but for its treatments."""

    folder: Path
    """Of the prescription; each trial has a run's folder and files of output in it."""
    job_of: Callable[[Path, Sequence[str], Path, Path], Job]
    """Makes a job of the run's folder, the treatments, and the files for what it prints."""

    def run_folder(self, name: str) -> Path:
        """Return the folder of a trial's record."""
        return self.folder / name

    def output(self, name: str, kind: str) -> Path:
        """Return the file of what a trial prints: kind `out` or `err`."""
        return self.folder / f"{name}.{kind}.txt"

    def job(self, name: str, treat: Sequence[str]) -> Job:
        """Return the job of a trial."""
        out, err = self.output(name, "out"), self.output(name, "err")
        return self.job_of(self.run_folder(name), treat, out, err)


@dataclass(slots=True)
class TrialState:
    """A candidate on its way."""

    number: int
    candidate: Candidate
    attempt: int = 0
    is_alone: bool = False
    """It failed beside others before it trained, as by a port in use: once more by itself."""
    running: Running | None = None
    started: float = 0.0
    next_read: float = 0.0
    losses: Losses | None = None

    @property
    def name(self) -> str:
        """Return the name of the folder of this attempt."""
        again = "" if self.attempt == 0 else f"-again{self.attempt}"
        return f"{self.number:02d}-{self.candidate.remedy}{again}"


@dataclass(kw_only=True)
class Trials:
    """Runs candidates and keeps what came of each, also when it is interrupted."""

    script: TrialScript
    executor: Executor
    at_once: int
    limit_s: float
    """For one trial."""
    halving: Halving | None
    """None where nobody is given up for standing behind."""
    on_change: Callable[[Sequence[Trial]], None]
    """Is given all trials whenever one of them has changed."""
    results: list[TrialResult] = field(default_factory=list[TrialResult])
    """Those that have ended, in that order."""
    _rows: dict[int, Trial] = field(default_factory=dict[int, Trial])
    _count: int = 0

    @property
    def rows(self) -> list[Trial]:
        """Return all trials, in the order in which they were asked for."""
        return [self._rows[number] for number in sorted(self._rows)]

    def run(self, candidates: Sequence[Candidate], *, until: float) -> list[TrialResult]:
        """Run candidates to their ends and return what came of them.

        Args:
            candidates: In the order in which they are to begin.
            until: Time of `time.monotonic` after which none begins any more.
        """
        waiting: deque[TrialState] = deque()
        for each in candidates:
            self._count += 1
            waiting.append(TrialState(self._count, each))
            self._show(waiting[-1], "waiting")
        running: list[TrialState] = []
        before = len(self.results)
        try:
            while waiting or running:
                self._begin(waiting, running, until)
                for state in list(running):
                    if not self._look_at(state, waiting):
                        running.remove(state)
                if running:
                    time.sleep(_LOOK_S)
        finally:
            for state in running:
                self._stop(state, "stopped")
            for state in waiting:
                self._rows.pop(state.number, None)
            self.on_change(self.rows)
        return self.results[before:]

    def _begin(self, waiting: deque[TrialState], running: list[TrialState], until: float) -> None:
        """Start what there is room for; let those wait that must be alone."""
        while waiting and len(running) < self.at_once:
            if time.monotonic() > until:
                for state in waiting:
                    self._rows.pop(state.number)
                waiting.clear()
                return
            if any(state.is_alone for state in running) or (waiting[0].is_alone and running):
                return
            state = waiting.popleft()
            state.running = self.executor.start(self.script.job(state.name, state.candidate.treat))
            state.started = time.monotonic()
            running.append(state)
            self._show(state, "running")

    def _look_at(self, state: TrialState, waiting: deque[TrialState]) -> bool:
        """Take in how a trial stands; return whether it goes on."""
        assert state.running is not None
        ended = state.running.poll()
        if ended is not None:
            self._end(state, ended, waiting)
            return False
        now = time.monotonic()
        if now - state.started > self.limit_s:
            self._stop(state, "timeout")
            return False
        if now >= state.next_read:
            state.losses = losses_of(self.script.run_folder(state.name))
            took = time.monotonic() - now
            state.next_read = now + max(_READ_S, 10 * took)
            if state.losses.is_dead:
                self._stop(state, "dead")
                return False
            if self.halving is not None and self.halving.is_behind(state.name, state.losses):
                self._stop(state, "behind")
                return False
            self._show(state, "running")
        return True

    def _end(self, state: TrialState, ended: Ended, waiting: deque[TrialState]) -> None:
        """Note an end, or put the trial back where the fault was not the treatment's."""
        state.losses = losses_of(self.script.run_folder(state.name))
        if ended == "lost":
            if state.attempt < _MOST_LOSSES:
                waiting.appendleft(TrialState(state.number, state.candidate, state.attempt + 1))
                self._show(state, "waiting")
            else:
                self._note(state, "lost", None)
            return
        if ended != 0 and state.losses.steps == 0 and self.at_once > 1 and not state.is_alone:
            again = TrialState(state.number, state.candidate, state.attempt + 1, is_alone=True)
            waiting.append(again)
            self._show(again, "waiting")
            return
        outcome: TrialOutcome = "crashed" if ended else "finished"
        self._note(state, "dead" if state.losses.is_dead else outcome, ended)

    def _stop(self, state: TrialState, outcome: TrialOutcome) -> None:
        assert state.running is not None
        state.running.stop()
        self._note(state, outcome, None)

    def _note(self, state: TrialState, outcome: TrialOutcome, code: int | None) -> None:
        losses = losses_of(self.script.run_folder(state.name)) if code is None else state.losses
        assert losses is not None
        state.losses = losses
        trial = dataclasses.replace(
            self._row(state, outcome),
            exit=code,
            final_loss=printed_final_loss(self.script.output(state.name, "out")),
            note=last_line(self.script.output(state.name, "err")) if outcome == "crashed" else "",
        )
        self._rows[state.number] = trial
        self.results.append(TrialResult(state.candidate, trial, losses))
        self.on_change(self.rows)

    def _show(self, state: TrialState, outcome: TrialOutcome) -> None:
        self._rows[state.number] = self._row(state, outcome)
        self.on_change(self.rows)

    def _row(self, state: TrialState, outcome: TrialOutcome) -> Trial:
        losses = state.losses
        begun = state.running is not None
        return Trial(
            name=state.name,
            treat=state.candidate.treat,
            why=state.candidate.why,
            outcome=outcome,
            steps=0 if losses is None else losses.steps,
            loss=float("nan") if losses is None else losses.level(),
            seconds=round(time.monotonic() - state.started, 1) if begun else 0.0,
        )


def last_line(path: Path) -> str:
    """Return the last line that a script itself has written to a file of its errors."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    own = text.split("\n gainstage ", 1)[0]
    return next((line.strip() for line in reversed(own.splitlines()) if line.strip()), "")
