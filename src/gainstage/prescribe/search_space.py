"""Which treatments to try, in which order: the diagnosis's own, then one of each kind, then nearer.

Settings are half a decade apart, so that between two neighbours there is little to gain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from gainstage.diagnose.causes import CAUSE
from gainstage.diagnose.remedies import advised_limit
from gainstage.errors import ConfigError
from gainstage.facts.diagnosis import BY_HAND, Diagnosis, Remedy
from gainstage.facts.observation import ClipCalled, ClipNothing, OptimizerMade
from gainstage.facts.record import RankRecord
from gainstage.prescribe.candidate import Candidate, candidate
from gainstage.treat.spec import Spec, parse

HALF_DECADES = (1.0, 0.3, 0.1, 0.03, 0.01)
_LEAST_CONFIDENCE = 0.02
"""Below it an alternative cause is not treated before the general ladder."""
_TORCHS_EPS = 1e-8
_HALF = {"float16", "bfloat16"}
_FP16_BITS = 20.0
"""Largest value plus headroom of a node, in bits: 16 for float16, 128 for the others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BaselineFacts:
    """What the baseline's record says about which treatments can matter at all."""

    is_nonfinite: bool = True
    """Whether a loss or gradient was."""
    eps: float | None = None
    """Of the optimizer; None where it has none, or none was seen."""
    is_half: bool = False
    """Whether anything was computed in float16 or bfloat16."""
    has_matrices: bool = True
    clips: bool = False
    """Whether the script does so itself, or means to."""
    advised_max_norm: float = 1.0
    steps: int = 0


def facts_of(record: RankRecord) -> BaselineFacts:
    """Return the facts of a baseline's record."""
    made = record.first(OptimizerMade)
    eps = None if made is None else made.evidence.settings.eps
    block = record.block
    return BaselineFacts(
        is_nonfinite=record.fault is not None
        or not bool(np.isfinite(block.loss[block.has_loss]).all())
        or not bool(np.isfinite(block.grad_norms[block.present]).all()),
        eps=float(eps) if isinstance(eps, (int, float)) else None,
        is_half=_is_half(record),
        has_matrices=any(len(tensor.shape) > 1 for tensor in record.tensors),
        clips=any(record.first(kind) is not None for kind in (ClipCalled, ClipNothing)),
        advised_max_norm=advised_limit(block, record.alarm_step),
        steps=len(block),
    )


def _is_half(record: RankRecord) -> bool:
    profiles = record.profiles
    largest = np.fmax(profiles.forward_max_bits, profiles.delta_max_bits)
    with np.errstate(invalid="ignore"):  # inf bits have a headroom of -inf
        whole = largest + profiles.headroom_bits
    return (
        bool((whole[np.isfinite(whole)] < _FP16_BITS).any())
        or any(tensor.dtype in _HALF for tensor in record.tensors)
        or any(
            _HALF & {fault.evidence.dtype, fault.evidence.state_dtype} for fault in record.faults
        )
        or bool((record.block.skipped > 0).any())
    )


def first_round(
    diagnosis: Diagnosis | None, facts: BaselineFacts, record: RankRecord
) -> list[Candidate]:
    """Return the diagnosis's remedies, those of its alternatives, and one of each other kind."""
    found: list[Candidate] = []
    if diagnosis is not None:
        found += _treatable(diagnosis.remedies, diagnosis.cause)
        for other in diagnosis.alternatives:
            if other.confidence >= _LEAST_CONFIDENCE:
                remedies = CAUSE[other.cause].remedies(record)
                found += _treatable(remedies, other.cause)[:1]
    return distinct([*found, *_general(facts)])


def _general(facts: BaselineFacts) -> list[Candidate]:
    """Return one treatment of each kind that can matter, the simplest first."""
    found: list[Candidate] = []
    if facts.is_nonfinite:
        found.append(candidate("skip-nonfinite", why="steps with NaN or inf do no harm"))
    found.append(candidate("clip-global-norm:max_norm=1", why="the usual limit"))
    if facts.eps is not None and facts.eps < _TORCHS_EPS:
        found.append(candidate(f"raise-eps:eps={_TORCHS_EPS:g}", why="torch's own eps"))
    found.append(candidate("lower-lr:factor=0.1", why="a tenth of the learning rate"))
    if facts.is_half:
        found.append(candidate("fp32-module", why="float32 has the headroom"))
    if facts.has_matrices:
        found.append(candidate("reinit:kind=auto", why="initial weights that keep levels"))
    found.append(candidate(f"warm-up:steps={_warm_up(facts)}", why="the first steps are small"))
    if facts.has_matrices:
        found.append(candidate("insert-norm:kind=layer", why="levels are held where they grow"))
    return found


def second_round(ranked: Sequence[Candidate], facts: BaselineFacts) -> list[Candidate]:
    """Return what to try when one of each kind has been tried; asked anew whenever more is known.

    So a setting whose neighbour was better is followed in that direction, step by step.

    Args:
        ranked: Those that helped, the best first; empty when none did.
        facts: Of the baseline.

    Returns:
        Neighbours of the best, then combinations of those that helped, the rest of the general
        ladder and neighbours of the second, in turn. May hold what was tried before.
    """
    near = [_nearer(best, facts) for best in ranked[:2]]
    best, second = [*near, [], []][:2]
    mixed = zip_longest(_together(ranked[:3], facts), _rest(facts), second)
    return distinct([*best, *(each for group in mixed for each in group if each is not None)])


def _nearer(best: Candidate, facts: BaselineFacts) -> list[Candidate]:
    """Return the same remedy with other settings, the other treatments as they are."""
    spec, rest = best.specs[-1], best.specs[:-1]
    return [
        Candidate((*rest, parse(text)), f"near {best.treat[-1]}") for text in _settings(spec, facts)
    ]


def _settings(spec: Spec, facts: BaselineFacts) -> list[str]:
    values = spec.values()
    match spec.remedy:
        case "clip-global-norm":
            limit = float(values["max_norm"])
            return [f"clip-global-norm:max_norm={each:g}" for each in _beside(limit)]
        case "lower-lr":
            # The larger first: of rates that a run survives it learns more.
            factors = [each for each in reversed(_beside(float(values["factor"]))) if each < 1]
            return [f"lower-lr:factor={each:g}" for each in factors]
        case "warm-up":
            lengths = [max(2, round(each)) for each in _beside(float(values["steps"]))]
            return [f"warm-up:steps={each}" for each in lengths]
        case "raise-eps":
            return [f"raise-eps:eps={float(values['eps']) * f:g}" for f in (1e2, 1e4)]
        case "reinit":
            return _reinits()
        case "insert-norm":
            return ["insert-norm:kind=rms"]
        case _:
            return []


def _beside(value: float) -> list[float]:
    """Return the values half a decade below and above: beside 3 they are 1 and 10."""
    place = round(2 * math.log10(value))
    return [float(f"{10 ** (near / 2):.0e}") for near in (place - 1, place + 1)]


def _reinits() -> list[str]:
    kinds = ("he", "orthogonal", "xavier", "he,mode=fan_out", "residual", "lsuv")
    return [f"reinit:kind={kind}" for kind in kinds]


def _together(ranked: Sequence[Candidate], facts: BaselineFacts) -> list[Candidate]:
    """Return the best with the others that helped, and with the usual companions.

    A script that clips, and whose code has been set right, needs no second clip.
    """
    if not ranked:
        return []
    best = ranked[0]
    clip, slower = parse("clip-global-norm:max_norm=1"), parse("lower-lr:factor=0.3")
    others = [spec for each in ranked[1:] for spec in each.specs]
    used = {spec.remedy for spec in best.specs}
    if facts.clips and "code-change" in used:
        used.add("clip-global-norm")
    pairs: list[Candidate] = []
    for spec in (*others, clip, slower):
        if spec.remedy not in used:
            used.add(spec.remedy)
            pairs.append(Candidate((*best.specs, spec), "what helped, together"))
    return pairs


def _rest(facts: BaselineFacts) -> list[Candidate]:
    """Return the general ladder beyond its first round."""
    texts: list[tuple[str, ...]] = [
        ("lower-lr:factor=0.01",),
        ("clip-global-norm:max_norm=0.1",),
        ("lower-lr:factor=0.03",),
        ("clip-global-norm:max_norm=0.3",),
        (f"clip-global-norm:max_norm={facts.advised_max_norm:g}",),
    ]
    if facts.has_matrices:
        texts[2:2] = [(each,) for each in _reinits()[:3]]
    if facts.eps is not None:
        texts.append(("raise-eps:eps=1e-06",))
    texts.append(("clip-global-norm:max_norm=1", "lower-lr:factor=0.1"))
    if facts.is_nonfinite:
        texts.append(("skip-nonfinite", "clip-global-norm:max_norm=1", "lower-lr:factor=0.1"))
    return [candidate(*each, why="the general ladder") for each in texts]


def distinct(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return candidates without those that are like an earlier one."""
    kept: list[Candidate] = []
    for each in candidates:
        if not any(each.is_like(known) for known in kept):
            kept.append(each)
    return kept


def _treatable(remedies: Iterable[Remedy], cause: str) -> list[Candidate]:
    """Return what can be done from outside; what a person must do in the code is left out."""
    found: list[Candidate] = []
    for each in remedies:
        if each.remedy in BY_HAND:
            continue
        pairs = ",".join(f"{key}={value}" for key, value in each.settings.items())
        try:
            spec = parse(f"{each.remedy}:{pairs}")
        except ConfigError:
            # An advised limit of 0 or inf, or a module's name with a comma in it.
            continue
        found.append(Candidate((spec,), f"{cause}: {each.why}"))
    return found


def _warm_up(facts: BaselineFacts) -> int:
    """Return the usual 100 steps, less for a run that would be over by then."""
    return 100 if facts.steps <= 0 else max(2, min(100, facts.steps // 3))
