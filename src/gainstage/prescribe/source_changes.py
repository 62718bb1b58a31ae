"""The script's source changed: candidates that a diagnosis asks for, and the winner's diff."""

from __future__ import annotations

import os
from pathlib import Path

from gainstage.facts.diagnosis import Diagnosis
from gainstage.facts.record import RankRecord
from gainstage.facts.treatment_event import TreatmentState
from gainstage.prescribe.candidate import Candidate, candidate
from gainstage.prescribe.patch.code_changes import code_changes
from gainstage.prescribe.patch.diff import Patch, patch_of
from gainstage.prescribe.rank_trials import TrialResult
from gainstage.prescribe.request import PrescribeRequest
from gainstage.prescribe.trials import TrialScript
from gainstage.store.reader import load


def code_candidates(
    request: PrescribeRequest,
    record: RankRecord,
    diagnosis: Diagnosis | None,
    folder: Path,
) -> list[Candidate]:
    """Return changes of the script's code to try, their texts written into a folder.

    Args:
        request: Names the script.
        record: Of the baseline.
        diagnosis: Of the baseline.
        folder: Takes the changed texts.
    """
    if diagnosis is None or not request.runs_changed_text:
        return []
    causes = {each.cause: each.confidence for each in (diagnosis, *diagnosis.alternatives)}
    candidates: list[Candidate] = []
    for number, change in enumerate(code_changes(request.path, record, causes), start=1):
        changed = folder / f"change-{number}.py"
        changed.write_bytes(change.content)
        source = f"code-change:source={os.path.relpath(changed)}"
        candidates.append(candidate(source, why=change.what))
    return candidates


def patch_for(best: TrialResult, script: TrialScript, record: RankRecord, path: Path) -> Patch:
    """Return the winner as a diff of the script, or as an instruction.

    Args:
        best: The winner.
        script: Knows where the trial's journal is.
        record: Of the baseline.
        path: Of the script.
    """
    journal = load(script.run_folder(best.trial.name)).treatments
    states = [event for event in journal if isinstance(event, TreatmentState)]
    details = [dict(state.details or {}) for state in states if state.event == "ended"]
    specs = best.candidate.specs
    if len(details) < len(specs):
        # A trial that forked has several journals' worth, one that was killed has none.
        details = [{} for _ in specs]
    return patch_of(specs, record, details[: len(specs)], path)
