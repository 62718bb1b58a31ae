"""`bad-data`: the data are wrong."""

from __future__ import annotations

from collections.abc import Sequence

from gainstage.diagnose.cause_kind import CauseKind
from gainstage.diagnose.evidence.leap import OnlyLossLeapt, leap_evidence
from gainstage.diagnose.place import first_layers, growth_end, operation_site, site_in
from gainstage.diagnose.remedies import SKIP, clip
from gainstage.facts.diagnosis import CauseSite, Remedy
from gainstage.facts.record import RankRecord


def place(record: RankRecord) -> CauseSite:
    """Return the wrong operation, else where the data enter: the first layer or the loss."""
    if record.fault is not None:
        return operation_site(record) or growth_end(record)
    step = record.alarm_step
    leaps = [] if step is None else list(leap_evidence(record, step))
    _, layers = first_layers(record)
    if any(isinstance(leap, OnlyLossLeapt) for leap in leaps) or not layers:
        return site_in("loss", record.loss_site)
    return site_in("input", layers[0])


def remedies(record: RankRecord) -> Sequence[Remedy]:
    """Return a step without that batch, the data repaired, and a clip."""
    return [SKIP, Remedy("fix-data", why="drop or repair this sample"), clip(record)]


KIND = CauseKind(
    id="bad-data",
    words="the data are wrong",
    signature="the input or target of one batch is not finite or far outside the usual, and other "
    "batches are fine",
    weighs={
        "bad-input": 8.0,
        "huge-data": 7.0,
        "leapt-from-calm": 5.0,
        "input-leapt": 5.0,
        "bad-constant": 3.0,
        "only-the-loss-leapt": 3.0,
        "bad-elements": 2.0,
        "quiet-before": 1.5,
        "overflow": -1.0,
        "bad-features": -1.0,
        "grew-before": -1.0,
        "of-a-finite-loss": -1.5,
        "grew-step-by-step": -3.0,
        "state-climbs": -3.0,
        "raw-data-is-finite": -4.0,
        "half-state-overflows": -6.0,
        "state-is-not-finite": -6.0,
        "input-usual-at-the-leap": -7.0,
        "stream-leapt": -7.0,
    },
    place=place,
    remedies=remedies,
)
