"""What a topic of the lab shows: text, tables and pictures, not yet laid out."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of texts; numbers are formatted by who makes them."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Bars:
    """One bar a label, as long as its value; what is not finite has none and says so."""

    title: str
    labels: tuple[str, ...]
    values: tuple[float, ...]
    unit: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One series of a figure. A value that is not finite is left out of the line."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    is_dashed: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """Lines over a common axis."""

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    levels: tuple[tuple[str, float], ...] = ()
    """Horizontal lines by name, such as the largest value of a dtype."""
    is_log_x: bool = False
    note: str = ""


Part = str | Table | Bars | Figure


@dataclass(frozen=True, slots=True)
class TopicPage:
    """One topic, whole."""

    name: str
    """The command's name."""
    title: str
    parts: tuple[Part, ...]


def number(value: float, digits: int = 6) -> str:
    """Return a number as short as its digits allow; a large whole one in full.

    Example:
        >>> number(524288.0), number(0.03125), number(2.0**100)
        ('524288', '0.03125', '1.26765e+30')
    """
    if not math.isfinite(value):
        return str(value)
    if value == math.floor(value) and abs(value) < 1e9:
        return str(int(value))
    return f"{value:.{digits}g}"


def bits(value: float) -> str:
    """Return a level, gain or slope in bits, with its sign.

    Example:
        >>> bits(1.0), bits(-0.004)
        ('+1.00', '+0.00')
    """
    return f"{round(value, 2) + 0.0:+.2f}" if math.isfinite(value) else f"{value:+}"


def vector(values: list[float], digits: int = 4) -> str:
    """Return a vector as text.

    Example:
        >>> vector([16.0, 12.0, -8.0])
        '[16, 12, -8]'
    """
    return f"[{', '.join(number(value, digits) for value in values)}]"


def share(value: float) -> str:
    """Return a fraction as percent.

    Example:
        >>> share(0.8)
        '80%'
    """
    return f"{100 * value:.3g}%"
