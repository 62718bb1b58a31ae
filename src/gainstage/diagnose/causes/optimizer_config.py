"""`optimizer-config`: the optimizer is not set up as it should be."""

from __future__ import annotations

from collections.abc import Sequence

from gainstage.diagnose.cause_kind import CauseKind
from gainstage.diagnose.code_change import settings_change, unheld_change
from gainstage.diagnose.place import fault_site, observation_site
from gainstage.diagnose.remedies import clip, slower
from gainstage.facts.diagnosis import CauseSite, Remedy
from gainstage.facts.observation import OptimizerMade, ParametersUnstepped
from gainstage.facts.record import RankRecord


def place(record: RankRecord) -> CauseSite:
    """Return the update that was not finite, else the line that makes the optimizer."""
    fault = record.fault
    if fault is not None and fault.kind == "update":
        return fault_site(fault)
    return observation_site("optimizer", record.first(OptimizerMade))


def remedies(record: RankRecord) -> Sequence[Remedy]:
    """Return an eps, the parameters that are missing, or usual settings."""
    made, fault = record.first(OptimizerMade), record.fault
    has_no_eps = made is not None and made.evidence.settings.eps == 0
    if has_no_eps or (fault is not None and fault.kind == "update"):
        return [Remedy("raise-eps", {"eps": 1e-8}, "the update divides by zero"), slower(record)]
    unstepped = record.first(ParametersUnstepped)
    if unstepped is not None:
        return [Remedy("code-change", why=unheld_change(unstepped, made))]
    return [Remedy("code-change", why=settings_change(made)), clip(record), slower(record)]


KIND = CauseKind(
    id="optimizer-config",
    words="the optimizer is not set up as it should be",
    signature="gradients are fine and updates are not: eps, betas, momentum, the sign of weight "
    "decay, parameters in no optimizer",
    weighs={
        "update-divides-by-zero": 10.0,
        "parameters-unheld": 9.0,
        "settings-out-of-range": 9.0,
        "weights-moved-beyond-updates": 7.0,
        "all-weights-grow-alike": 6.0,
        "eps-is-zero": 3.0,
        "update-nonfinite": 2.0,
        "leapt-from-calm": -2.0,
    },
    place=place,
    remedies=remedies,
    code_changes=("optimizer-settings", "add-parameters", "take-out-writes"),
)
