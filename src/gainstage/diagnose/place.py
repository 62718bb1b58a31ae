"""Where a cause sits: phase, operation, module, file and line, sample."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gainstage.detect.level.depth_gain import FEWEST_LAYERS
from gainstage.diagnose.evidence.profiles import FADED_BITS
from gainstage.facts.diagnosis import CauseSite
from gainstage.facts.fault import Fault, Phase, Site
from gainstage.facts.observation import Observation, Observed
from gainstage.facts.record import RankRecord

HUGE_BITS = 20.0
"""A state of such a level is itself what has gone wrong, not the gradient through it."""
_NAMED = 3
"""Samples that a site names; the record of the fault has all of them."""


def operation_site(record: RankRecord) -> CauseSite | None:
    """Return the first wrong operation; None where none is known, or the update was wrong."""
    fault = record.fault
    if fault is None or fault.kind == "update" or (fault.kind == "unknown" and not fault.site.op):
        return None
    return fault_site(fault)


def growth_end(record: RankRecord) -> CauseSite:
    """Return the layer at which growth or fading ends; where no layer is known, the fault."""
    layer = _steepest_fade(record) or _largest_delta(record)
    if layer is not None:
        return site_in("backward", layer)
    return CauseSite() if record.fault is None else fault_site(record.fault)


def fault_site(fault: Fault) -> CauseSite:
    """Return where a fault is, with the samples that show it."""
    samples = fault.samples
    return CauseSite(
        phase=fault.phase,
        module=fault.site.module,
        parameter=fault.parameter,
        op=fault.site.op or None,
        file=fault.site.file,
        line=fault.site.line,
        time_step=fault.time_step,
        samples=None if samples is None else samples[:_NAMED],
        samples_in_all=None if samples is None else len(samples),
    )


def observation_site(phase: Phase, seen: Observation[Observed] | None) -> CauseSite:
    """Return the line at which the script was seen to do something."""
    if seen is None:
        return CauseSite(phase)
    return CauseSite(phase, file=seen.file, line=seen.line)


def site_in(phase: Phase, site: Site | None) -> CauseSite:
    """Return an operation of a phase."""
    if site is None:
        return CauseSite(phase)
    return CauseSite(phase, module=site.module, op=site.op or None, file=site.file, line=site.line)


def loss_at_alarm(record: RankRecord) -> Site | None:
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


def highest_level(record: RankRecord, least: float) -> CauseSite | None:
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
        if site is not None and (site.module or profiles.forward_bits[at] >= HUGE_BITS):
            return site_in("forward", site) if profiles.forward_bits[at] >= least else None
    return None


def steepest_recurrence(record: RankRecord) -> CauseSite | None:
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
    return site_in("forward", record.sites[number]) if number < len(record.sites) else None


def first_layers(record: RankRecord) -> tuple[NDArray[np.float32], list[Site | None]]:
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
    deltas, sites = first_layers(record)
    return sites[int(deltas.argmax())] if sites else None


def _steepest_fade(record: RankRecord) -> Site | None:
    """Return the layer, the readout excepted, behind which the gradient falls most, if it fades."""
    deltas, sites = first_layers(record)
    if len(sites) < FEWEST_LAYERS or deltas[-1] - deltas[0] < FADED_BITS:
        return None
    with np.errstate(invalid="ignore"):  # one that is 0 and one before it, too
        falls = np.nan_to_num(np.diff(deltas[:-1]), posinf=0.0, neginf=0.0)
    return sites[1 + int(falls.argmax())]
