"""The evidence of `overflow-forecast`, whatever it is that will overflow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from gainstage.detect.series.forecast import Forecast
from gainstage.facts.ranges import OMIT

ForecastOf = Literal[
    "norm",  # the global gradient norm
    "output",  # the largest value that an operation put out
    "logarithm",  # the smallest argument of a logarithm, which rounds to 0
]


@dataclass(frozen=True, slots=True, kw_only=True)
class OverflowForecastEvidence:
    """When a growth meets the largest value of its dtype, if it goes on as it does."""

    of: ForecastOf
    overflow_step: float
    earliest_step: float
    """With `latest_step` the interval that holds the step of the overflow."""
    latest_step: float
    interval: float = 0.8
    """Probability that the interval holds it."""
    slope_bits_per_step: float
    headroom_bits: float
    """Bits that were left when it was forecast."""
    dtype: str | None = field(default=None, metadata=OMIT)
    """The one that overflows: torch's name without the prefix."""
    site: int | None = field(default=None, metadata=OMIT)
    """Index into the sites of the operation whose output it is."""
    argument_bits: float | None = field(default=None, metadata=OMIT)
    """Of a logarithm: bits that its smallest argument is below 1."""
    line: int | None = field(default=None, metadata=OMIT)
    """Of the logarithm."""


def forecast_evidence(
    seen: Forecast,
    of: ForecastOf,
    *,
    dtype: str | None = None,
    site: int | None = None,
    argument_bits: float | None = None,
    line: int | None = None,
) -> OverflowForecastEvidence:
    """Return a forecast as evidence, with what it is of."""
    return OverflowForecastEvidence(
        of=of,
        overflow_step=seen.step,
        earliest_step=seen.earliest,
        latest_step=seen.latest,
        slope_bits_per_step=seen.slope_bits_per_step,
        headroom_bits=seen.headroom_bits,
        dtype=dtype,
        site=site,
        argument_bits=argument_bits,
        line=line,
    )
