"""OpenMetrics: the state of a run as a text file, for a scraper of files or a web server.

Format: github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md. Prometheus reads
such files by the textfile collector of its node exporter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from gainstage.facts.run_info import RunInfo
from gainstage.facts.symptom import Symptom
from gainstage.integrations.sinks.kind import SinkKind
from gainstage.store.journal import write_text
from gainstage.store.series import Series, SeriesBlock

_HELP = {
    "loss": "Loss of the last step.",
    "lr": "Learning rate of the last step.",
    "grad_norm": "2-norm of all gradients, before clipping.",
    "clip_coefficient": "Factor that clipping has put on the gradients.",
    "skipped": "Steps that a loss scaler left out since the one before; -1: this one was.",
    "grad_norm_max": "Largest norm of a tensor's gradient.",
    "grad_norm_median": "Median norm of the tensors' gradients.",
    "nonfinite_tensors": "Tensors whose gradient holds inf or NaN.",
}


class OpenMetricsSink:
    """A file that always holds the newest step; it is replaced whole, never half-written."""

    def __init__(self, path: Path, info: RunInfo) -> None:
        """Write the file with nothing seen yet."""
        self._path = path
        self._script = info.script
        self._latest: dict[Series, float] = {}
        self._step: int | None = None
        self._time = 0.0
        self._symptoms: dict[str, Symptom] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._replace()

    def write(self, block: SeriesBlock, symptoms: Sequence[Symptom] = ()) -> None:
        """Put the last of the steps into the file."""
        for self._step, self._time, values in block.rows():
            self._latest = values
        self._symptoms |= {symptom.symptom: symptom for symptom in symptoms}
        self._replace()

    def close(self) -> None:
        """Leave the last state where it is."""

    def _replace(self) -> None:
        lines = _family("run", "info", "What is watched.")
        lines.append(f"gainstage_run_info{{script={_quoted(self._script)}}} 1")
        if self._step is not None:
            lines += [*_family("step", "gauge", "The last step."), f"gainstage_step {self._step}"]
            lines += _family("step_time_seconds", "gauge", "When it was, since the epoch.")
            lines.append(f"gainstage_step_time_seconds {self._time!r}")
        for series, value in self._latest.items():
            if series.tensor is None:
                lines += _family(series.quantity, "gauge", _HELP[series.quantity])
                lines.append(f"gainstage_{series.quantity} {_number(value, series.is_count)}")
        lines += self._of_tensors()
        lines += self._of_symptoms()
        write_text(self._path, "\n".join([*lines, "# EOF", ""]))

    def _of_tensors(self) -> Iterable[str]:
        found = [(each, value) for each, value in self._latest.items() if each.tensor is not None]
        if found:
            yield from _family("tensor_grad_norm", "gauge", "2-norm of a tensor's gradient.")
        for series, value in found:
            label = _quoted(series.tensor or "")
            yield f"gainstage_tensor_grad_norm{{tensor={label}}} {_number(value)}"

    def _of_symptoms(self) -> Iterable[str]:
        if self._symptoms:
            yield from _family("symptom_step", "gauge", "First step of a symptom, by severity.")
        for symptom in self._symptoms.values():
            labels = f"symptom={_quoted(symptom.symptom)},severity={_quoted(symptom.severity)}"
            yield f"gainstage_symptom_step{{{labels}}} {symptom.step}"


def _family(name: str, kind: str, said: str) -> list[str]:
    return [f"# TYPE gainstage_{name} {kind}", f"# HELP gainstage_{name} {said}"]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return f'"{escaped}"'


def _number(value: float, is_count: bool = False) -> str:
    if math.isfinite(value):
        return repr(int(value) if is_count else value)
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


OPENMETRICS = SinkKind(
    name="openmetrics",
    title="OpenMetrics",
    open=OpenMetricsSink,
    place="file",
    default="metrics.txt",
    keeps="the newest step",
    loses="`NaN`, `+Inf`, `-Inf`; the file is replaced whole",
)
