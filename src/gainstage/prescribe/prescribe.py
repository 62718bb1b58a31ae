"""A repair that was tried: the baseline, its diagnosis, trials of treatments, and the winner."""

from __future__ import annotations

import time
from dataclasses import asdict, replace

from gainstage.diagnose.causes import CAUSE
from gainstage.facts.diagnosis import BY_HAND, Diagnosis
from gainstage.facts.prescription import BestTrial, Prescription, UntreatedTrial
from gainstage.prescribe.baseline import Baseline, job_maker, run_baseline
from gainstage.prescribe.executor import LocalExecutor, processors_at_once
from gainstage.prescribe.halving import Halving
from gainstage.prescribe.losses import Losses, losses_of
from gainstage.prescribe.patch.diff import Patch
from gainstage.prescribe.rank_trials import TrialResult
from gainstage.prescribe.request import PrescribeRequest
from gainstage.prescribe.search import Search
from gainstage.prescribe.search_space import facts_of, first_round, second_round
from gainstage.prescribe.source_changes import code_candidates, patch_for
from gainstage.prescribe.trials import Trials, TrialScript
from gainstage.store.folder import claim_folder
from gainstage.store.journal import write_json
from gainstage.store.reader import StoredRun, load

_WORTH_CUTTING_S = 30.0
"""Seconds of a run below which nobody is given up for standing behind: starting costs as much."""
_LONGEST_TRIAL = 4.0
"""Times the baseline's time, besides a minute."""
_LONGEST = 12.0
"""Times the baseline's time that all trials may take, or 5 minutes if that is more."""


def prescribe(request: PrescribeRequest) -> Prescription:
    """Run a script, find what is wrong with it, try treatments, and return what helped.

    Ctrl-C ends all trials; the prescription is then of what is known.

    Raises:
        ConfigError: If the script does not train.
        RunFolderError: If the records have no place.
    """
    name = request.target if request.is_module else request.path.name
    folder = claim_folder(name, "prescribe")
    script = TrialScript(folder=folder, job_of=job_maker(request, request.arguments))
    baseline = run_baseline(script, request)
    run = load(script.run_folder(baseline.trial.name))
    losses = losses_of(run.folder)
    prescription = _untreated(script, baseline, run)
    if run.findings.verdict != "healthy" or losses.is_dead or baseline.trial.outcome != "finished":
        prescription = _search(request, script, baseline, run, losses, prescription)
    write_json(folder / "prescription.json", prescription)
    return prescription


def _untreated(script: TrialScript, baseline: Baseline, run: StoredRun) -> Prescription:
    """Return what is known before any treatment is tried."""
    findings = run.findings
    diagnosis = findings.diagnosis
    return Prescription(
        folder=str(script.folder),
        baseline=UntreatedTrial(
            **asdict(baseline.trial),
            verdict=findings.verdict,
            cause=None if diagnosis is None else diagnosis.cause,
        ),
        trials=(),
        best=None,
        said="the run is healthy: there is nothing to treat",
    )


def _search(
    request: PrescribeRequest,
    script: TrialScript,
    baseline: Baseline,
    run: StoredRun,
    losses: Losses,
    untreated: Prescription,
) -> Prescription:
    """Try treatments, and return the prescription with what came of them."""
    record = run.record(min(run.ranks, default=0))
    diagnosis = run.findings.diagnosis
    trials = _trials(request, script, baseline, losses)
    search = Search(
        request=request,
        trials=trials,
        baseline=baseline.trial,
        losses=losses,
        is_unbounded=diagnosis is not None and not CAUSE[diagnosis.cause].is_lower_loss_better,
        until=time.monotonic() + max(300.0, _LONGEST * baseline.trial.seconds),
    )
    is_interrupted = False
    patch: Patch | None = None
    try:
        facts = facts_of(record)
        changes = code_candidates(request, record, diagnosis, script.folder)
        first = [*changes, *first_round(diagnosis, facts, record)]
        search.run_rounds(first, lambda helped: second_round(helped, facts))
        if (best := search.best()) is not None:
            patch = search.verified_patch(best, patch_for(best, script, record, request.path))
    except KeyboardInterrupt:
        is_interrupted = True
    finally:
        trials.executor.close()
    best = search.best()
    if best is not None and patch is None:
        patch = patch_for(best, script, record, request.path)
    winner = None if best is None else search.as_best(best)
    return replace(
        untreated,
        trials=tuple(trials.rows),
        best=winner,
        said=_said(best, winner, len(trials.rows), is_interrupted=is_interrupted),
        diff=None if patch is None else patch.diff,
        diff_final_loss=None if patch is None else patch.final_loss,
        instruction=None if patch is None else patch.instruction,
        code_change=_code_change(diagnosis),
        is_interrupted=is_interrupted,
    )


def _trials(
    request: PrescribeRequest, script: TrialScript, baseline: Baseline, losses: Losses
) -> Trials:
    trial = baseline.trial
    return Trials(
        script=script,
        executor=request.executor or LocalExecutor(),
        at_once=request.workers or processors_at_once(baseline.processors),
        limit_s=60.0 + _LONGEST_TRIAL * trial.seconds,
        halving=Halving(losses.steps) if trial.seconds > _WORTH_CUTTING_S else None,
        on_change=lambda rows: request.on_change([trial, *rows]),
    )


def _said(
    best: TrialResult | None, winner: BestTrial | None, count: int, *, is_interrupted: bool
) -> str:
    """Return the outcome in one sentence."""
    end = "; interrupted, so this is what is known" if is_interrupted else ""
    if best is None or winner is None:
        return f"none of {count} trials ended better than the run as it is{end}"
    is_seed = winner.confirmed_by == "second seed"
    if winner.confirmed is None:
        how = "not confirmed by another run"
    elif winner.confirmed:
        how = "confirmed by " + ("a second seed" if is_seed else "a repeat")
    else:
        how = "but not when run again with " + ("a second seed" if is_seed else "the same")
    return f"{best.candidate.in_words} ends at {winner.final_loss:.4g}, {how}{end}"


def _code_change(diagnosis: Diagnosis | None) -> str | None:
    """Return what the diagnosis would have a person change."""
    remedies = () if diagnosis is None else diagnosis.remedies
    return next((remedy.why for remedy in remedies if remedy.remedy in BY_HAND), None)
