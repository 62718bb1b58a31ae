"""Clipping: the worked example, all kinds side by side, thresholds on a real run, advice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gainstage.errors import ConfigError
from gainstage.lab.clip_kinds import HISTORY, KINDS, clipped
from gainstage.lab.topic import Topic
from gainstage.lab.topic_page import Figure, Line, Table, TopicPage, number, share, vector
from gainstage.lab.validate import finite, positive
from gainstage.lab.watched_runs import Progress, WatchedRun, char_rnn, quiet, watch_runs
from gainstage.norms.clip import clip_grad_norm_
from gainstage.norms.total import total_norm

EXAMPLE = (16.0, 12.0, -8.0)
THRESHOLDS = (1.0, 5.0, 10.0)
_CHARACTER = {1.0: "tight; usual for recurrent nets", 5.0: "moderate", 10.0: "loose"}
_PERCENTILE = 90
_CANDIDATES = (50, 75, 90, 95, 99)


@dataclass(frozen=True, slots=True)
class ClippedGradients:
    """One kind of clipping on one set of gradients."""

    kind: str
    limits: str
    after: tuple[tuple[float, ...], ...]
    norm: float
    cosine: float
    """Between all gradients before and after, as one vector; 1 where the direction is kept."""


@dataclass(frozen=True, slots=True)
class Example:
    """Gradients clipped by their global norm, then by every kind."""

    before: tuple[tuple[float, ...], ...]
    max_norm: float
    norm: float
    coefficient: float
    after: tuple[tuple[float, ...], ...]
    kinds: tuple[ClippedGradients, ...]


@dataclass(frozen=True, slots=True)
class Threshold:
    """A real training, clipped at a threshold; 0 is not clipped."""

    max_norm: float
    share_clipped: float
    largest_norm: float
    final_loss: float


@dataclass(frozen=True, slots=True)
class SuggestedThreshold:
    """A threshold that a healthy run's norms suggest."""

    percentile: int
    max_norm: float
    share_clipped: float


@dataclass(frozen=True, slots=True)
class Runs:
    """What thresholds do to a training that explodes, and what a healthy one advises."""

    script: str
    sick: tuple[str, ...]
    thresholds: tuple[Threshold, ...]
    norm_bits: tuple[tuple[str, tuple[float, ...]], ...]
    advice: tuple[SuggestedThreshold, ...]
    note: str


@dataclass(frozen=True, slots=True)
class ClipTopic(Topic):
    """Everything about clipping."""

    example: Example
    imbalance: Example
    runs: Runs | None

    def topic_page(self) -> TopicPage:
        """Return clipping as text, tables and pictures."""
        return TopicPage(
            "clip",
            f"Clipping at {number(self.example.max_norm)}",
            (
                "g <- g · min(1, max_norm / norm): a gradient longer than max_norm is scaled to "
                "that length and keeps its direction.",
                _steps(self.example),
                _kinds("All kinds on the same gradient", self.example),
                Table(
                    "What each kind bounds",
                    ("kind", "bounded:"),
                    tuple((each.kind, each.limits) for each in self.example.kinds),
                ),
                "One large and one small tensor (exercise 4): a clip by the global norm starves "
                "the small one, whose gradient was harmless.",
                _steps(self.imbalance),
                _kinds("Two tensors, per parameter and adaptive beside global", self.imbalance),
                *(_runs(self.runs) if self.runs else ()),
            ),
        )


def clip(
    values: Sequence[float] = EXAMPLE,
    max_norm: float = 5.0,
    *,
    runs: bool = True,
    script: str | None = None,
    progress: Progress = quiet,
) -> ClipTopic:
    """Clip a gradient, set all kinds side by side, and clip a real training at 1, 5 and 10.

    Args:
        values: The gradient of the example.
        max_norm: Its threshold, above 0.
        runs: Whether to train (half a minute); otherwise the runs are left out.
        script: A script that takes char_rnn.py's options; found by itself where not given, and
            the packaged `gainstage.lab.text_task` where there is none.
        progress: Called with a line about each longer computation.

    Raises:
        ConfigError: If a value is not finite, the threshold not above 0, or a script not there.
    """
    positive("max_norm", max_norm)
    if not values:
        raise ConfigError("a gradient has at least one value; name some, such as 16,12,-8")
    grads = [torch.tensor([finite("gradient", value) for value in values])]
    if script is not None and not Path(script).is_file():
        raise ConfigError(f"no such script: {script!r}")
    pair = [torch.tensor([100.0, 0.0]), torch.tensor([0.0, 0.1])]
    return ClipTopic(
        example(grads, max_norm),
        example(pair, 1.0),
        _train(script, progress) if runs else None,
    )


def example(grads: Sequence[Tensor], max_norm: float) -> Example:
    """Return gradients clipped; adaptive clipping sees weights of norm 1."""
    before = [grad.double() for grad in grads]
    parameters = [torch.nn.Parameter(torch.zeros_like(grad)) for grad in before]
    for parameter, grad in zip(parameters, before, strict=True):
        parameter.grad = grad.clone()
    norm = float(clip_grad_norm_(parameters, max_norm))
    after = [parameter.grad for parameter in parameters if parameter.grad is not None]
    longest = max(range(len(before)), key=lambda i: float(before[i].norm()))
    ratio = float(after[longest].norm() / before[longest].norm()) if norm else 1.0
    weights = [torch.full_like(grad, grad.numel() ** -0.5) for grad in before]
    kinds = [
        _compared(kind.name, kind.limits, before, clipped(kind, weights, before, max_norm))
        for kind in KINDS
    ]
    return Example(_tuples(before), max_norm, norm, ratio, _tuples(after), tuple(kinds))


def _compared(
    kind: str, limits: str, before: Sequence[Tensor], after: Sequence[Tensor]
) -> ClippedGradients:
    one, other = torch.cat(list(before)), torch.cat(list(after))
    length = float(one.norm() * other.norm())
    cosine = float(one @ other) / length if length else 1.0
    return ClippedGradients(kind, limits, _tuples(after), total_norm(after), cosine)


def _tuples(grads: Sequence[Tensor]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(each) for each in grad) for grad in grads)


def _train(script: str | None, progress: Progress) -> Runs:
    found = Path(script).resolve() if script else char_rnn()
    small = ["--hidden", "64", "--batch", "16", "--steps", "30"]
    if found is None:
        target, name, gain = ["-m", "gainstage.lab.text_task"], "gainstage.lab.text_task", "1.5"
        note = (
            "examples/char_rnn.py is not part of the installed package, so the lab's own smaller "
            "text task stands in for it"
        )
    else:
        target, name, gain, note = [str(found)], found.name, "1.3", ""
    sick = ["--gain", gain, *small]
    limits = (0.0, *THRESHOLDS)
    commands = [[*target, *sick, "--clip", str(limit)] for limit in limits]
    *clipped_runs, healthy = watch_runs([*commands, [*target, "--gain", "0.8", *small]], progress)
    return Runs(
        name,
        tuple(sick),
        tuple(_threshold(limit, run) for limit, run in zip(limits, clipped_runs, strict=True)),
        tuple(
            (f"max_norm {number(limit)}" if limit else "not clipped", _norm_bits(run))
            for limit, run in zip(limits, clipped_runs, strict=True)
        ),
        advise(healthy.block.grad_norm.tolist()),
        note,
    )


def _threshold(limit: float, run: WatchedRun) -> Threshold:
    norms = run.block.grad_norm
    known = norms[np.isfinite(norms)]
    largest = float(known.max()) if len(known) else math.nan
    return Threshold(limit, run.share_clipped, largest, run.final_loss)


def _norm_bits(run: WatchedRun) -> tuple[float, ...]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return tuple(np.log2(run.block.grad_norm).tolist())


def advise(norms: Sequence[float]) -> tuple[SuggestedThreshold, ...]:
    """Return thresholds at percentiles of a healthy run's norms, and what each would have clipped.

    The share is replayed on the norms themselves: how many of them stand above the threshold.
    """
    known = np.asarray([norm for norm in norms if math.isfinite(norm)])
    if not len(known):
        return ()
    found = [(each, float(np.percentile(known, each))) for each in _CANDIDATES]
    return tuple(SuggestedThreshold(p, limit, float((known > limit).mean())) for p, limit in found)


def _steps(example: Example) -> Table:
    names = [f"g{i}" if len(example.before) > 1 else "g" for i in range(1, len(example.before) + 1)]
    return Table(
        f"norm {number(example.norm, 8 if example.norm > 99 else 4)}, factor "
        f"{number(example.coefficient, 4)} at max_norm {number(example.max_norm)}",
        ("gradient", "before", "after"),
        tuple(
            (name, vector(list(before)), vector(list(after)))
            for name, before, after in zip(names, example.before, example.after, strict=True)
        ),
        "a factor rounded before it multiplies gives other last digits"
        if example.before == (EXAMPLE,)
        else "",
    )


def _kinds(title: str, example: Example) -> Table:
    return Table(
        title,
        ("kind", "after", "norm", "direction", "cosine"),
        tuple(
            (
                kind.kind,
                " ".join(vector(list(grad), 3) for grad in kind.after),
                number(kind.norm, 4),
                "kept" if kind.cosine > 1 - 1e-9 else "turned",
                f"{kind.cosine:.4f}",
            )
            for kind in example.kinds
        ),
        f"AutoClip and ZClip have seen {HISTORY} calm steps before, whose norms rise evenly from "
        f"{number(example.max_norm / 2)} to {number(example.max_norm)}",
    )


def _runs(runs: Runs) -> tuple[str | Table | Figure, ...]:
    text = f"{runs.script} {' '.join(runs.sick)}, run for real and watched by gainstage"
    return (
        f"{text}. {runs.note}".strip(),
        Table(
            "What a threshold does to a training that explodes",
            ("max_norm", "steps clipped", "largest norm", "final loss", "known as:"),
            tuple(
                (
                    number(threshold.max_norm) if threshold.max_norm else "none",
                    share(threshold.share_clipped),
                    number(threshold.largest_norm, 3),
                    f"{threshold.final_loss:.4g}",
                    _CHARACTER.get(threshold.max_norm, ""),
                )
                for threshold in runs.thresholds
            ),
            "largest norm: of those that are finite, before the clip",
        ),
        Figure(
            "Gradient norm before the clip, by threshold",
            "step",
            "bits",
            tuple(
                Line(name, tuple(map(float, range(len(norms)))), norms)
                for name, norms in runs.norm_bits
            ),
        ),
        Table(
            "Which threshold? What a healthy run (gain 0.8, not clipped) says",
            ("percentile", "max_norm", "would clip"),
            tuple(
                (
                    f"{each.percentile}{' (advised)' if each.percentile == _PERCENTILE else ''}",
                    number(each.max_norm, 3),
                    share(each.share_clipped),
                )
                for each in runs.advice
            ),
            "too small, and nearly every step is clipped: the learning rate is lowered in "
            "disguise; too large, and it never acts before it is too late",
        ),
    )
