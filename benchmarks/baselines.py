"""Published rules beside the detectors, over the same records of the generated corpus.

    python -m benchmarks.corpus --keep corpus-test
    python -m benchmarks.baselines corpus-test

Each rule is written from its paper or docs and sees only what the record holds: the loss, the norm
of each gradient, sampled norms of the weights. Where a rule asks for more (accuracy, single
elements), the docstring says what stands in. All call a value that is not finite an alarm.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks.corpus.families import cases
from benchmarks.corpus.score import Outcome, judge_all, wilson
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import gainstage
from gainstage.facts.blocks import StepBlock, WeightBlock
from gainstage.facts.tensor import TensorInfo

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Record:
    """What a rule may look at."""

    block: StepBlock
    weights: WeightBlock
    tensors: tuple[TensorInfo, ...]

    @property
    def sizes(self) -> NDArray[np.float64]:
        """Elements of each tensor."""
        return np.array([info.numel for info in self.tensors], dtype=np.float64)


def autotrainer(record: Record) -> Flags:
    """AUTOTRAINER: the first layer's gradient more than 70 times the last one's.

    It asks for an accuracy below 0.6 as well, from 30% of the training on; a loss no lower than at
    its start stands in.
    """
    block = record.block
    layers = [i for i, info in enumerate(record.tensors) if len(info.shape) > 1]
    ratio = block.grad_norms[:, layers[0]] / block.grad_norms[:, layers[-1]]
    late = np.arange(len(block)) >= 0.3 * len(block)
    return (ratio > 70) & (block.loss >= np.median(block.loss[:3])) & late


def deep_checker(record: Record) -> Flags:
    """TheDeepChecker: mean |g| above 1e6 or doubled in 5 steps, weights above 1e8, loss doubled.

    The loss against its least so far. The root mean square stands in for the mean of magnitudes.
    """
    block = record.block
    rms = block.grad_norms / np.sqrt(record.sizes)
    doubled = np.zeros(len(block), dtype=np.bool_)
    doubled[5:] = (block.grad_norms[5:] > 2 * block.grad_norms[:-5]).any(axis=1)
    least = np.minimum.accumulate(np.where(np.isfinite(block.loss), block.loss, np.inf))
    heavy = record.weights.step[(record.weights.weight_norms > 1e8).any(axis=1)]
    return (
        (rms > 1e6).any(axis=1) | doubled | (block.loss >= 2 * least) | np.isin(block.step, heavy)
    )


def deep_diagnosis(record: Record) -> Flags:
    """DeepDiagnosis: the variance of a gradient's elements outside of [1e-5, 10], about zero."""
    block = record.block
    variance = block.grad_norms.astype(np.float64) ** 2 / record.sizes
    return ((variance > 10) | ((variance < 1e-5) & block.present)).any(axis=1)


def spike_detection(record: Record) -> Flags:
    """Lightning's SpikeDetection: the loss off the mean of the last 10 by twice that mean."""
    loss, flags = record.block.loss, np.zeros(len(record.block), dtype=np.bool_)
    for i in range(10, len(loss)):
        mean = loss[i - 10 : i].mean()
        flags[i] = abs(loss[i] - mean) > 2.0 * abs(mean)
    return flags


def spike_score(record: Record) -> Flags:
    """OLMo 2's spike score: a norm 7 standard deviations off the mean of the last 32 to 1000."""
    norm, flags = record.block.grad_norm, np.zeros(len(record.block), dtype=np.bool_)
    for i in range(32, len(norm)):
        past = norm[max(0, i - 1000) : i]
        flags[i] = abs(norm[i] - past.mean()) >= 7 * past.std()
    return flags


def trainscope(record: Record) -> Flags:
    """trainscope: 3 steps above median + 3·1.4826·MAD of the last 50, or CUSUM 6, slack 1."""
    norm, flags = record.block.grad_norm, np.zeros(len(record.block), dtype=np.bool_)
    above, total = 0, 0.0
    for i in range(10, len(norm)):
        past = norm[max(0, i - 50) : i]
        middle = np.median(past)
        spread = 1.4826 * np.median(np.abs(past - middle)) or 1e-30
        z = (norm[i] - middle) / spread
        above = above + 1 if z > 3 else 0
        total = max(0.0, total + z - 1) if np.isfinite(z) else total
        flags[i] = above >= 3 or total > 6
    return flags


RULES: dict[str, Callable[[Record], Flags]] = {
    "AUTOTRAINER": autotrainer,
    "TheDeepChecker": deep_checker,
    "DeepDiagnosis": deep_diagnosis,
    "Lightning SpikeDetection": spike_detection,
    "OLMo spike score": spike_score,
    "trainscope": trainscope,
}


def first_alarm(rule: Callable[[Record], Flags], record: Record) -> int | None:
    """Return the first step that a rule flags, or that is not finite."""
    block = record.block
    with np.errstate(all="ignore"):
        flags = rule(record)
    flags = flags | (block.has_loss & ~np.isfinite(block.loss)) | ~np.isfinite(block.grad_norm)
    return int(block.step[flags][0]) if flags.any() else None


def row_of(name: str, outcomes: list[Outcome], alarms: list[int | None]) -> list[str]:
    """Return a line of the table."""
    pairs = [(o, a) for o, a in zip(outcomes, alarms, strict=True) if o.counts]
    sick = [(o, a) for o, a in pairs if o.faulty]
    well = [a for o, a in pairs if not o.faulty]
    leads = [o.failure_step - a for o, a in sick if a is not None and o.failure_step is not None]
    early = sum(a is not None and a < o.fault_step for o, a in sick)
    hits, false = sum(a is not None for _, a in sick), sum(a is not None for a in well)
    low, high = wilson(hits, len(sick))
    least, most = wilson(false, len(well))
    return [
        name,
        f"{hits / len(sick):.1%}",
        f"{low:.1%} to {high:.1%}",
        f"{false / len(well):.1%}",
        f"{least:.1%} to {most:.1%}",
        f"{statistics.median(leads):g}" if leads else "-",
        str(early),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.baselines", description=__doc__)
    parser.add_argument("folder", type=Path, help="records kept by benchmarks.corpus")
    parser.add_argument("--split", choices=["dev", "test"], default="test")
    parser.add_argument("--each", type=int, default=8)
    args = parser.parse_args()
    chosen = cases(args.split, args.each)
    outcomes = judge_all(chosen, args.folder)
    table = Table("rule", "recall", "95%", "false alarms", "95%", "lead", "premature")
    table.add_row(*row_of("gainstage", outcomes, [o.alarm_step for o in outcomes]))
    for name, rule in RULES.items():
        alarms: list[int | None] = []
        for case in chosen:
            run = gainstage.load(args.folder / case.name)
            alarms.append(first_alarm(rule, Record(run.block(), run.weight_block(), run.tensors())))
        table.add_row(*row_of(name, outcomes, alarms))
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
