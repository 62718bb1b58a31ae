"""The rounds of trials, the confirmation of who wins them, and the test of the winner's diff."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from gainstage.facts.findings import Verdict
from gainstage.facts.prescription import BestTrial, Trial
from gainstage.prescribe.baseline import job_maker
from gainstage.prescribe.candidate import Candidate, candidate
from gainstage.prescribe.losses import Losses, is_finite
from gainstage.prescribe.patch.diff import Patch, by_hand
from gainstage.prescribe.rank_trials import TrialResult, has_helped, ranked, reports_its_loss
from gainstage.prescribe.request import PrescribeRequest
from gainstage.prescribe.search_space import distinct
from gainstage.prescribe.seed import with_another_seed
from gainstage.prescribe.trials import Trials
from gainstage.store.reader import load

FIRST_SHARE = 2 / 3
"""Of the trials, for one of each kind; the rest goes to neighbours and combinations of the best."""
_FEW = 3
"""Trials up to which none is kept for running the diff."""


@dataclass(kw_only=True)
class Search:
    """Finds the candidate that wins, by trials."""

    request: PrescribeRequest
    trials: Trials
    baseline: Trial
    losses: Losses
    """Of the baseline."""
    is_unbounded: bool
    """Whether the lowest loss is the most broken one."""
    until: float
    """Time of `time.monotonic` after which no round begins."""
    confirmation: TrialResult | None = None
    is_other_seed: bool = False
    """Whether the confirmation had another seed than the winner."""
    _rejected: tuple[Candidate, ...] = ()
    """Those that cannot win: not confirmed, or the winner's own diff."""
    _verdicts: dict[str, Verdict] = field(default_factory=dict[str, Verdict])
    """Of the record of a trial, by the trial's name."""

    def run_rounds(
        self,
        first: Sequence[Candidate],
        second: Callable[[Sequence[Candidate]], list[Candidate]],
    ) -> None:
        """Run both rounds and confirm the winner, within the number of trials.

        Args:
            first: Candidates of the first round, the best guess first.
            second: Returns candidates of the second round for those that helped, best first.
        """
        budget = self.request.trials - sum(self._reserved())
        begun = list(first[: max(1, round(FIRST_SHARE * budget))])
        self.trials.run(begun, until=self.until)
        while len(begun) < budget and time.monotonic() < self.until:
            further = second([result.candidate for result in self._ranked()])
            rest = [new for new in distinct([*begun, *further, *first]) if new not in begun]
            if not rest:
                break
            # Only as many as run at once: their results choose the next ones.
            now = rest[: min(self.trials.at_once, budget - len(begun))]
            self.trials.run(now, until=self.until)
            begun += now
        self._confirm(self.request.trials - len(self.trials.rows) - self._reserved()[1])

    def _reserved(self) -> tuple[int, int]:
        """Return how many of the trials are kept for the confirmation, and for the diff."""
        trials = self.request.trials
        return int(trials > 1), int(trials > _FEW and self.request.runs_changed_text)

    def _ranked(self) -> list[TrialResult]:
        """Return the trials that helped and may win, the best first."""
        results = [result for result in self.trials.results if result is not self.confirmation]
        if self.is_unbounded:
            results = [result for result in results if self._is_bounded(result.trial)]
        helped = ranked(results, self._reference(), self.losses.start())
        return [result for result in helped if result.candidate not in self._rejected]

    def _has_helped(self, result: TrialResult) -> bool:
        return has_helped(result, self._reference(), self.losses.start())

    def _reference(self) -> Trial:
        """Return the baseline; as dead where its end is the value of what has no bound."""
        trials = [result.trial for result in self.trials.results if is_finite(result.trial)]
        if self.is_unbounded and any(map(reports_its_loss, trials)):
            return replace(self.baseline, outcome="dead")
        return self.baseline

    def _is_bounded(self, trial: Trial) -> bool:
        """Whether a trial's loss can be compared: another quantity, or one that behaves."""
        if not is_finite(trial) or not reports_its_loss(trial):
            return True
        if trial.name not in self._verdicts:
            run = load(self.trials.script.run_folder(trial.name))
            self._verdicts[trial.name] = run.findings.verdict
        return self._verdicts[trial.name] == "healthy"

    def _confirm(self, left: int) -> None:
        """Run the winner once more, with another seed where there is one; else take the next.

        Args:
            left: Trials that may still be run.
        """
        best, has_begun = self.best(), False
        # Once whatever the time is: a winner that won once may be luck.
        while best is not None and left > 0 and (not has_begun or time.monotonic() < self.until):
            has_begun = True
            again = self._run_again(best)
            if self.confirmation is None or self._has_helped(self.confirmation):
                return
            left -= 1
            if len(self._ranked()) < 2 or left < 1:
                return
            self._rejected = (*self._rejected, best.candidate, again)
            self.confirmation = None
            best = self.best()

    def _run_again(self, best: TrialResult) -> Candidate:
        """Run the winner a second time, as `confirmation`; return that trial's candidate."""
        arguments = with_another_seed(self.request.path, self.request.arguments)
        own = self.trials.script
        if arguments is not None:
            self.is_other_seed = True
            self.trials.script = replace(own, job_of=job_maker(self.request, arguments))
        how = "the repeat" if arguments is None else "the second seed"
        self.trials.halving = None
        again = replace(best.candidate, why=f"{how} of {best.trial.name}")
        results = self.trials.run([again], until=math.inf)
        self.trials.script = own
        self.confirmation = results[0] if results else None
        return again

    def verified_patch(self, best: TrialResult, patch: Patch) -> Patch:
        """Run what the winner's diff makes of the script; drop the diff if that does not help."""
        if patch.content is None or not self.request.runs_changed_text:
            return patch
        if best.candidate.remedy == "code-change":
            return replace(patch, final_loss=best.trial.reported_loss)
        if len(self.trials.rows) >= self.request.trials:
            return patch
        text = self.trials.script.folder / "patched.py"
        text.write_bytes(patch.content)
        source = f"code-change:source={os.path.relpath(text)}"
        patched = candidate(source, why=f"the diff of {best.trial.name}")
        self._rejected = (*self._rejected, patched)
        (result,) = self.trials.run([patched], until=math.inf)
        trial = result.trial
        if self._has_helped(result):
            return replace(patch, final_loss=trial.reported_loss)
        end = f"ended at {trial.reported_loss:.4g}" if is_finite(trial) else "failed"
        why = f"the edit was tried and {end}: {text.name} beside the records"
        return by_hand(best.candidate.specs, why)

    def best(self) -> TrialResult | None:
        """Return the winner so far."""
        return next(iter(self._ranked()), None)

    def as_best(self, best: TrialResult) -> BestTrial:
        """Return the winner with its confirmation."""
        confirmation = self.confirmation
        return BestTrial(
            remedy=best.candidate.remedy,
            settings=best.candidate.settings(),
            final_loss=best.trial.reported_loss,
            why=best.candidate.why,
            treat=best.candidate.treat,
            trial=best.trial.name,
            confirmed=None if confirmation is None else self._has_helped(confirmation),
            confirmed_by=None
            if confirmation is None
            else ("second seed" if self.is_other_seed else "repeat"),
        )
