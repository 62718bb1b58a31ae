"""`overflow-forecast`: when the growth goes on as it does, the step at which the dtype overflows.

Of the global norm, of what operations put out, and of the arguments of logarithms: a detector each.
"""

from __future__ import annotations

from gainstage.detect.kind.symptom_kind import Detector, DocRow, SymptomKind
from gainstage.detect.level import level_forecast, log_forecast, norm_forecast
from gainstage.detect.level.overflow_evidence import OverflowForecastEvidence


def message(evidence: OverflowForecastEvidence) -> str:
    """Return the sentence for people."""
    low, high = evidence.earliest_step, evidence.latest_step
    when = f"at step {evidence.overflow_step:.0f} ({low:.0f} to {high:.0f})"
    slope, dtype = evidence.slope_bits_per_step, evidence.dtype or "the dtype"
    match evidence.of:
        case "norm":
            return (
                f"at {slope:+.2g} bits a step the gradient norm passes {dtype}'s largest value "
                f"{when}"
            )
        case "output":
            return f"at {slope:+.2g} bits a step an output passes {dtype}'s largest value {when}"
        case "logarithm":
            where = "" if evidence.line is None else f" in line {evidence.line}"
            return (
                f"at {slope:.2g} bits a step the smallest argument of the logarithm{where}, "
                f"2^-{evidence.argument_bits or 0:.0f}, rounds to 0 {when}"
            )


def site(evidence: OverflowForecastEvidence) -> int | None:
    """Return the number of the operation whose output it is."""
    return evidence.site


KIND = SymptomKind(
    id="overflow-forecast",
    evidence=(OverflowForecastEvidence,),
    detectors=(
        Detector(family="gradient", start=norm_forecast.NormForecast, norms=norm_forecast.update),
        Detector(family="level", start=log_forecast.LogSeries, observations=log_forecast.update),
        Detector(family="level", start=level_forecast.OutputSeries, profiles=level_forecast.update),
    ),
    message=message,
    site=site,
    docs=(
        DocRow(
            "headroom over slope, 80% interval",
            "global norm, narrowest dtype",
            "steps",
            "note; warning from 100 steps before",
            "growth below 5 bits",
        ),
        DocRow(
            "the same of an operation's largest output, with a quarter of float16's range left (of "
            "others 16 bits, or beyond 2³² after 16 bits of growth), if with 80% probability it "
            "overflows before the run is twice as long",
            "sampled graphs",
            "steps",
            "warning",
            "levels that settle; a loss scaler's gradients",
        ),
        DocRow(
            "the same of a logarithm's smallest argument, with a third of the bits left: 24 of "
            "`1 - p` in float32, 149 of others; not where an eps or a clamp keeps it from 0",
            "sampled graphs",
            "steps",
            "warning",
            "arguments that settle",
        ),
    ),
)
