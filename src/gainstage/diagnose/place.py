"""Where a cause sits: phase, operation, module, file and line, sample."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gainstage.detect.level.depth_gain import FEWEST_LAYERS
from gainstage.diagnose.from_leap import leap_evidence
from gainstage.diagnose.from_profiles import FADED_BITS
from gainstage.diagnose.weights import Cause
from gainstage.facts.diagnosis import CauseSite
from gainstage.facts.fault import Fault, Phase, Site
from gainstage.facts.observation import (
    BackwardCalled,
    ClipAfterStep,
    ClipCalled,
    ClipNothing,
    ClipPartial,
    ClipScaled,
    Observation,
    Observed,
    OptimizerMade,
    OptimizerStepped,
)
from gainstage.facts.record import RankRecord

_FROM_FAULT: set[Cause] = {
    "numeric-op",
    "dtype-overflow",
    "bad-data",
    "normalization",
    "init-scale",
    "recurrent-gain",
}

_NAMED = 3
"""Samples that a site names; the record of the fault has all of them."""
_HUGE_BITS = 20.0
"""A state of such a level is itself what has gone wrong, not the gradient through it."""


def place_of_cause(cause: Cause, record: RankRecord) -> CauseSite:
    """Return where a cause sits."""
    fault = record.fault
    if cause == "optimizer-config":
        if fault is not None and fault.kind == "update":
            return _of_fault(fault)
        return _of_observation("optimizer", record.first(OptimizerMade))
    is_known = fault is not None and (fault.kind != "unknown" or bool(fault.site.op))
    if cause in _FROM_FAULT and fault is not None and is_known and fault.kind != "update":
        return _of_fault(fault)
    if cause == "residual-growth" and fault is not None and _is_in_network(fault):
        return _of_fault(fault)
    match cause:
        case "clip-misuse":
            for kind in (ClipAfterStep, ClipScaled, ClipNothing, ClipPartial, ClipCalled):
                seen = record.first(kind)
                if seen is not None:
                    return _of_observation("optimizer", seen)
        case "grad-accumulation":
            return _of_observation("backward", record.first(BackwardCalled))
        case "learning-rate":
            return _of_observation("optimizer", record.first(OptimizerStepped))
        case "loss-reduction":
            return _site("loss", record.loss_site, None)
        case "unbounded-objective":
            return _site("loss", _loss_at_alarm(record) or record.loss_site, None)
        case "bad-data" if fault is None:
            step = record.alarm_step
            leapt = set() if step is None else {name for name, _ in leap_evidence(record, step)}
            _, layers = _first_layers(record)
            if "only-the-loss-leapt" in leapt or not layers:
                return _site("loss", record.loss_site, None)
            return _site("input", layers[0], None)
        case _:
            pass
    if cause == "recurrent-gain":
        recurrence = _steepest_recurrence(record)
        if recurrence is not None:
            return _site("forward", recurrence, None)
    if cause in ("residual-growth", "recurrent-gain"):
        highest = _highest_level(record, -math.inf if cause == "residual-growth" else _HUGE_BITS)
        if highest is not None:
            return _site("forward", highest, None)
    largest = _steepest_fade(record) or _largest_delta(record)
    if largest is not None:
        return _site("backward", largest, None)
    return _site(None, None, None) if fault is None else _of_fault(fault)


def _is_in_network(fault: Fault) -> bool:
    """Tell whether it is within a module that the growth has first passed the dtype's range."""
    return fault.kind == "overflow" and fault.phase == "forward" and bool(fault.site.module)


def _loss_at_alarm(record: RankRecord) -> Site | None:
    """Return what a loss ended in when it was first seen to go wrong: of several, the one meant."""
    profiles, alarm = record.profiles, record.alarm_step
    later = profiles.step[profiles.step >= (0 if alarm is None else alarm)]
    if not len(later):
        return None
    rows = np.flatnonzero((profiles.step == later.min()) & (profiles.site >= 0))
    if not len(rows):
        return None
    number = int(profiles.site[rows[np.argmax(profiles.node[rows])]])
    return record.sites[number] if number < len(record.sites) else None


def _highest_level(record: RankRecord, least: float) -> Site | None:
    """Return where, within a module, the last sampled graph put out most: what a stream grew to.

    None where that is below a least level, in bits.
    """
    profiles = record.profiles
    if not len(profiles):
        return None
    rows = np.isfinite(profiles.forward_bits)
    if record.fault is not None:
        rows &= profiles.step < record.fault.step
    if not rows.any():
        return None
    rows &= profiles.step == profiles.step[rows].max()
    order = np.flatnonzero(rows)[np.argsort(-profiles.forward_bits[rows])]
    for at in order.tolist():
        number = int(profiles.site[at])
        site = record.sites[number] if 0 <= number < len(record.sites) else None
        if site is not None and (site.module or profiles.forward_bits[at] >= _HUGE_BITS):
            return site if profiles.forward_bits[at] >= least else None
    return None


def _steepest_recurrence(record: RankRecord) -> Site | None:
    """Return what makes the states of the recurrence along which deltas change most, up or down."""
    times = record.times
    rows = (times.depth == 0) & (times.site >= 0) & np.isfinite(times.delta_bits)
    if record.fault is not None:
        rows &= times.step < max(record.fault.step, 1)
    steps, series, bits = times.step[rows], times.series[rows], times.delta_bits[rows]
    if not len(bits):
        return None
    starts = np.flatnonzero(np.r_[True, (np.diff(steps) != 0) | (np.diff(series) != 0)])
    gained = np.maximum.reduceat(bits, starts) - np.minimum.reduceat(bits, starts)
    number = int(times.site[rows][starts[int(gained.argmax())]])
    return record.sites[number] if number < len(record.sites) else None


def _first_layers(record: RankRecord) -> tuple[NDArray[np.float32], list[Site | None]]:
    """Return the deltas of the layers of the first sampled graph, in forward order, and places."""
    profiles = record.profiles
    if not len(profiles):
        return np.zeros(0, np.float32), []
    rows = (profiles.step == profiles.step.min()) & (profiles.weight >= 0) & (profiles.site >= 0)
    rows &= ~np.isnan(profiles.delta_bits)
    numbers = profiles.site[rows].tolist()
    known = record.sites
    return profiles.delta_bits[rows], [known[n] if n < len(known) else None for n in numbers]


def _largest_delta(record: RankRecord) -> Site | None:
    """Return the layer of the first sampled graph whose gradient is largest: where growth ends."""
    deltas, sites = _first_layers(record)
    return sites[int(deltas.argmax())] if sites else None


def _steepest_fade(record: RankRecord) -> Site | None:
    """Return the layer, the readout excepted, behind which the gradient falls most, if it fades."""
    deltas, sites = _first_layers(record)
    if len(sites) < FEWEST_LAYERS or deltas[-1] - deltas[0] < FADED_BITS:
        return None
    with np.errstate(invalid="ignore"):  # one that is 0 and one before it, too
        falls = np.nan_to_num(np.diff(deltas[:-1]), posinf=0.0, neginf=0.0)
    return sites[1 + int(falls.argmax())]


def _of_fault(fault: Fault) -> CauseSite:
    return _site(fault.phase, fault.site, fault)


def _of_observation(phase: Phase, seen: Observation[Observed] | None) -> CauseSite:
    site = None if seen is None else Site("", None, None, seen.file, seen.line)
    return _site(phase, site, None)


def _site(phase: Phase | None, site: Site | None, fault: Fault | None) -> CauseSite:
    samples = None if fault is None else fault.samples
    return CauseSite(
        phase=phase,
        module=None if site is None else site.module,
        parameter=None if fault is None else fault.parameter,
        op=(site.op or None) if site is not None else None,
        file=None if site is None else site.file,
        line=None if site is None else site.line,
        time_step=None if fault is None else fault.time_step,
        samples=None if samples is None else samples[:_NAMED],
        samples_in_all=None if samples is None else len(samples),
    )
