"""Exercise 5: a run that learns for three epochs and dies in the fourth, and who saw it when."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from gainstage.detect.gradient.gradient_growth import STRONG_BITS
from gainstage.detect.symptom_json import message_of
from gainstage.facts.symptom import Symptom
from gainstage.lab.failing_task import STEPS_PER_EPOCH
from gainstage.lab.topic import Topic
from gainstage.lab.topic_page import Figure, Line, Table, TopicPage, bits, number
from gainstage.lab.watched_runs import Progress, WatchedRun, quiet, watch_runs

TEXTBOOK = {
    "S1": ("loss-nonfinite", "the loss is NaN or infinite"),
    "S2": ("weight-growth", "the weights grow without end"),
    "S3": ("gradient-growth", "the gradient norm grows from ~1 to ~1000"),
    "S4": ("gradient-norm", "the gradient norm is far from its usual level"),
}
_ALARM_UPDATE = 0.1
"""A step that changes a weight by a tenth of itself; healthy is about 0.001."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One way to watch: what, how often, against which threshold, and when it rang."""

    name: str
    granularity: str
    threshold: str
    first_step: int | None
    measured: str


@dataclass(frozen=True, slots=True)
class SymptomsTopic(Topic):
    """The run, its symptoms by the textbook's numbers, and three diagnostics."""

    steps_per_epoch: int
    epochs: tuple[tuple[float, float], ...]
    """(mean loss, log2 of the median gradient norm) by epoch."""
    seen: tuple[tuple[str, Symptom | None], ...]
    diagnostics: tuple[Diagnostic, ...]
    loss_bits: tuple[float, ...]
    norm_bits: tuple[float, ...]
    weight_bits: tuple[float, ...]
    """Of the weight that has grown most."""
    weight_steps: tuple[int, ...]
    weight_name: str

    def epoch_of(self, step: int) -> int:
        """Return the epoch of a step, from 1."""
        return step // self.steps_per_epoch + 1

    def topic_page(self) -> TopicPage:
        """Return the failing run as text, tables and pictures."""
        return TopicPage(
            "symptoms",
            "Exercise 5: it learns for three epochs, then dies",
            (
                "A small ReLU net whose warm-up multiplies the learning rate at every step and "
                "never stops. Trained for real, watched by gainstage; all numbers are its record.",
                Table(
                    "By epoch",
                    ("epoch", "mean loss", "gradient norm, bits"),
                    tuple(
                        (str(i), f"{loss:.4g}", bits(norm))
                        for i, (loss, norm) in enumerate(self.epochs, 1)
                    ),
                ),
                Table(
                    "The four textbook symptoms, as gainstage's detectors saw them",
                    ("symptom", "step", "epoch", "severity:", "what:"),
                    tuple(self._row(name, symptom) for name, symptom in self.seen),
                ),
                Table(
                    "Three diagnostics",
                    ("what", "how often:", "threshold:", "rang at step", "measured:"),
                    tuple(
                        (
                            d.name,
                            d.granularity,
                            d.threshold,
                            "never" if d.first_step is None else str(d.first_step),
                            d.measured,
                        )
                        for d in self.diagnostics
                    ),
                    "the coarser the look, the later the alarm: by the end of an epoch it is over",
                ),
                self._picture(),
            ),
        )

    def _row(self, name: str, symptom: Symptom | None) -> tuple[str, ...]:
        what = TEXTBOOK[name][1]
        if symptom is None:
            return (name, "-", "-", "not seen", what)
        return (
            f"{name} {symptom.symptom}",
            str(symptom.step),
            str(self.epoch_of(symptom.step)),
            symptom.severity,
            message_of(symptom),
        )

    def _picture(self) -> Figure:
        steps = tuple(map(float, range(len(self.norm_bits))))
        marks = ", ".join(f"{name} at {s.step}" for name, s in self.seen if s is not None)
        return Figure(
            "S1 to S4 on one picture",
            "step",
            "bits",
            (
                Line("loss", steps, self.loss_bits),
                Line("gradient norm", steps, self.norm_bits),
                Line(
                    f"weight {self.weight_name}",
                    tuple(map(float, self.weight_steps)),
                    self.weight_bits,
                ),
            ),
            note=f"{marks}; epochs begin at steps "
            + ", ".join(str(i * self.steps_per_epoch) for i in range(len(self.epochs))),
        )


def symptoms(*, progress: Progress = quiet) -> SymptomsTopic:
    """Train the failing network, watched, and read its record.

    Raises:
        GainstageError: If the training cannot be run.
    """
    progress("watching gainstage.lab.failing_task, four epochs")
    return read(_record(), STEPS_PER_EPOCH)


@cache
def _record() -> WatchedRun:
    """Return the run's record; the exercises ask for it again."""
    return watch_runs([["-m", "gainstage.lab.failing_task"]], weights=True)[0]


def read(run: WatchedRun, steps_per_epoch: int) -> SymptomsTopic:
    """Return what a record shows of S1 to S4 and of the three diagnostics."""
    block = run.block
    found = {symptom.symptom: symptom for symptom in run.findings.symptoms}
    with np.errstate(divide="ignore", invalid="ignore"):
        norm_bits = np.log2(block.grad_norm)
        loss_bits = np.log2(np.where(block.has_loss, block.loss, np.nan))
        weight_bits = np.log2(run.weights.weight_norms.astype(np.float64))
    pieces = range(0, len(block), steps_per_epoch)
    epochs = [
        (
            float(block.loss[at : at + steps_per_epoch].mean()),
            _median(norm_bits[at:][:steps_per_epoch]),
        )
        for at in pieces
    ]
    grown = np.where(np.isfinite(weight_bits), weight_bits, -np.inf).max(axis=0) - weight_bits[0]
    most = int(np.argmax(grown))
    return SymptomsTopic(
        steps_per_epoch,
        tuple(epochs),
        tuple((name, found.get(symptom)) for name, (symptom, _) in TEXTBOOK.items()),
        (
            _loss_by_epoch(run, steps_per_epoch),
            _norm_by_step(run, norm_bits, steps_per_epoch),
            _update_by_tensor(run),
        ),
        tuple(loss_bits.tolist()),
        tuple(norm_bits.tolist()),
        tuple(weight_bits[:, most].tolist()),
        tuple(run.weights.step.tolist()),
        run.tensors[most].name,
    )


def _median(levels: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    known = levels[np.isfinite(levels)]
    return float(np.median(known)) if len(known) else float("nan")


def _loss_by_epoch(run: WatchedRun, steps_per_epoch: int) -> Diagnostic:
    losses = run.block.loss
    for end in range(steps_per_epoch, len(losses) + 1, steps_per_epoch):
        mean = float(losses[end - steps_per_epoch : end].mean())
        if not np.isfinite(mean):
            return Diagnostic(
                "mean loss", "once an epoch", "not finite", end - 1, f"mean loss {mean}"
            )
    return Diagnostic("mean loss", "once an epoch", "not finite", None, "finite")


def _norm_by_step(
    run: WatchedRun,
    norm_bits: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    steps_per_epoch: int,
) -> Diagnostic:
    usual = _median(norm_bits[:steps_per_epoch])
    over = np.flatnonzero(~(norm_bits - usual < STRONG_BITS))
    name, often = "gradient norm", "every step, all tensors together"
    limit = f"{number(STRONG_BITS)} bits above epoch 1"
    if not len(over):
        return Diagnostic(name, often, limit, None, "below")
    first = int(over[0])
    return Diagnostic(
        name, often, limit, first, f"{norm_bits[first] - usual:+.1f} bits over 2^{usual:.1f}"
    )


def _update_by_tensor(run: WatchedRun) -> Diagnostic:
    """Return the alarm on lr·‖g‖/‖w‖, tensor by tensor: what plain SGD takes from a weight."""
    block, weights = run.block, run.weights
    name, often = "update / weight", "every step, every tensor"
    limit = f"{number(_ALARM_UPDATE)} of a matrix"
    matrices = [i for i, tensor in enumerate(run.tensors) if len(tensor.shape) > 1]
    row_of = {int(step): row for row, step in enumerate(block.step)}
    for sample, step in enumerate(weights.step.tolist()):
        row = row_of.get(step)
        if row is None:
            continue
        norms = block.grad_norms[row, matrices].astype(np.float64)
        ratio = block.lr[row] * norms / weights.weight_norms[sample, matrices]
        if not np.all(ratio < _ALARM_UPDATE):
            worst = int(np.argmax(ratio))
            tensor = run.tensors[matrices[worst]].name
            return Diagnostic(name, often, limit, step, f"{ratio[worst]:.2f} of {tensor}")
    return Diagnostic(name, often, limit, None, "below")
