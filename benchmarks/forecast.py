"""How often the interval of `overflow-forecast` holds, on synthetic growth.

    python benchmarks/forecast.py            the calibration curve: nominal and measured probability

Each series grows exponentially until it passes float32's largest value, with noise on every step:
at a constant rate, slowly faster, slowly slower, in stairs, or as a random walk with a drift. A
forecast is asked for at a random moment; it holds if the true step of the overflow lies inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from gainstage.detect.series.forecast import Forecast, forecast

LIMIT_BITS = 128.0
SERIES = 400
NOMINAL = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
Bits = NDArray[np.float64]


def constant(random: np.random.Generator, slope: float, steps: int) -> Bits:
    """Return a line."""
    return slope * np.arange(steps)


def faster(random: np.random.Generator, slope: float, steps: int) -> Bits:
    """Return a line whose slope has risen by up to a half at the limit."""
    x = slope * np.arange(steps) / LIMIT_BITS
    return LIMIT_BITS * (x + random.uniform(0.05, 0.25) * x**2)


def slower(random: np.random.Generator, slope: float, steps: int) -> Bits:
    """Return a line whose slope has fallen by up to a quarter at the limit."""
    x = slope * np.arange(steps) / LIMIT_BITS
    return LIMIT_BITS * np.log1p(random.uniform(0.05, 0.35) * x) / 0.2


def stairs(random: np.random.Generator, slope: float, steps: int) -> Bits:
    """Return growth in steps of one to three bits at random moments."""
    height = random.uniform(1, 3)
    return np.cumsum(height * (random.random(steps) < slope / height))


def walk(random: np.random.Generator, slope: float, steps: int) -> Bits:
    """Return a random walk that drifts upward."""
    return np.cumsum(slope * (1 + random.normal(size=steps)))


GROWTHS: dict[str, Callable[[np.random.Generator, float, int], Bits]] = {
    each.__name__: each for each in (constant, faster, slower, stairs, walk)
}


def errors(kind: str, seeds: range) -> list[float]:
    """Return the error of each forecast in units of the interval's half width, in logarithms."""
    found: list[float] = []
    for seed in seeds:
        random = np.random.default_rng([seed, *kind.encode()])
        slope = math.exp(random.uniform(math.log(0.05), math.log(1.0)))
        clean = GROWTHS[kind](random, slope, int(6 * LIMIT_BITS / slope))
        over = int(np.argmax(clean >= LIMIT_BITS))
        if clean[over] < LIMIT_BITS:
            continue
        noisy = clean + random.uniform(0.05, 0.5) * random.normal(size=len(clean))
        first = int(np.argmax(clean >= 5.0))
        now = int(random.integers(first, max(first + 1, int(0.9 * over))))
        past = slice(max(0, now - 63), now + 1)
        seen = forecast(list(range(len(noisy)))[past], noisy[past].tolist(), LIMIT_BITS)
        if seen is not None:
            found.append(error_of(seen, now, over))
    return found


def error_of(seen: Forecast, now: int, over: int) -> float:
    """Return log(true time / forecast time) in units of the 80% interval's half width."""
    half = math.log((seen.latest - now) / (seen.step - now))
    return math.log((over - now) / (seen.step - now)) / half


def held(errors: list[float], nominal: float) -> float:
    """Return the share of errors within the interval of a nominal probability."""
    normal = NormalDist()
    reach = normal.inv_cdf((1 + nominal) / 2) / normal.inv_cdf(0.9)
    return float(np.mean(np.abs(errors) <= reach))


def main() -> None:
    """Print the curve."""
    table = Table("growth", "forecasts", *(f"{each:.0%}" for each in NOMINAL))
    everything: list[float] = []
    for kind in GROWTHS:
        each = errors(kind, range(10_000, 10_000 + SERIES))
        everything += each
        table.add_row(kind, str(len(each)), *(f"{held(each, p):.0%}" for p in NOMINAL))
    table.add_section()
    table.add_row("all", str(len(everything)), *(f"{held(everything, p):.0%}" for p in NOMINAL))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
