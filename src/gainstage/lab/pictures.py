"""Figures and bars as SVG: no script, readable in light and dark, and on paper."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from gainstage.lab.topic_page import Bars, Figure, Line, number

WIDTH, HEIGHT = 640, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 24, 14, 50
_ROW = 22
_TICKS = 5


def figure_svg(figure: Figure) -> str:
    """Return a figure as an SVG element with a legend in HTML before it."""
    xs = [x for line in figure.lines for x in line.x]
    ys = [y for line in figure.lines for y in line.y if math.isfinite(y)]
    ys += [level for _, level in figure.levels]
    if not xs or not ys:
        return ""
    x_axis, y_axis = ticks(min(xs), max(xs)), ticks(min(ys), max(ys))
    place = _Place(min(xs), max(xs), y_axis[0], y_axis[-1])
    drawn = [_axes(figure, place, x_axis, y_axis)]
    colours = _colours(figure.lines)
    drawn += [_curve(line, c, place) for line, c in zip(figure.lines, colours, strict=True)]
    for name, level in figure.levels:
        y = place.y(level)
        drawn.append(
            f'<line class="level" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick named" x="{_LEFT + 6}" y="{y - 5:.1f}">'
            f"{html.escape(name)}</text>"
        )
    return (
        f'<div class="legend">{_legend(figure.lines)}</div>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(figure.title)}">{"".join(drawn)}</svg>'
    )


def bars_svg(bars: Bars) -> str:
    """Return bars as an SVG element."""
    finite = [abs(value) for value in bars.values if math.isfinite(value)]
    longest = max(finite, default=0.0) or 1.0
    height = _ROW * len(bars.values) + 4
    drawn: list[str] = []
    for row, (label, value) in enumerate(zip(bars.labels, bars.values, strict=True)):
        y = row * _ROW + 4
        length = 420 * abs(value) / longest if math.isfinite(value) else 0.0
        side = "negative" if value < 0 else "positive"
        drawn.append(
            f'<text class="label" x="{_LEFT - 8}" y="{y + 12}" text-anchor="end">'
            f"{html.escape(label)}</text>"
            f'<rect class="bar {side}" x="{_LEFT}" y="{y}" width="{max(length, 1):.1f}" '
            f'height="{_ROW - 6}"/><text class="label" x="{_LEFT + max(length, 1) + 8:.1f}" '
            f'y="{y + 12}">{html.escape(f"{number(value, 4)} {bars.unit}".strip())}</text>'
        )
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{html.escape(bars.title)}">{"".join(drawn)}</svg>'
    )


def ticks(low: float, high: float) -> list[float]:
    """Return even, round values that span a range.

    Example:
        >>> ticks(0.0, 9.3)
        [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    if not low < high:
        low, high = low - 1.0, high + 1.0
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * each for each in range(first, last + 1)]


class _Place:
    """Where values lie in the picture."""

    def __init__(self, left: float, right: float, bottom: float, top: float) -> None:
        self.left, self.right = (left, right) if left < right else (left - 1, right + 1)
        self.bottom, self.top = bottom, top

    def x(self, value: float) -> float:
        return _LEFT + (value - self.left) / (self.right - self.left) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.bottom) / (self.top - self.bottom)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)


def _axes(figure: Figure, place: _Place, x_axis: list[float], y_axis: list[float]) -> str:
    drawn: list[str] = []
    for value in y_axis:
        y = place.y(value)
        drawn.append(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{number(value, 4)}</text>"
        )
    for value in x_axis:
        if place.left <= value <= place.right:
            drawn.append(
                f'<text class="tick" x="{place.x(value):.1f}" y="{HEIGHT - _BOTTOM + 20}" '
                f'text-anchor="middle">{number(value, 4)}</text>'
            )
    middle = (HEIGHT - _BOTTOM + _TOP) / 2
    drawn.append(
        f'<text class="axis" x="{(WIDTH + _LEFT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">'
        f"{html.escape(figure.x_label)}</text>"
        f'<text class="axis" x="16" y="{middle}" text-anchor="middle" '
        f'transform="rotate(-90 16 {middle})">{html.escape(figure.y_label)}</text>'
    )
    return "".join(drawn)


def _colours(lines: Sequence[Line]) -> list[int]:
    """Return a colour for each line; a dashed one shares that of the line before it."""
    found: list[int] = []
    colour = -1
    for line in lines:
        colour += not line.is_dashed or not found
        found.append(colour % 8)
    return found


def _curve(line: Line, colour: int, place: _Place) -> str:
    pieces: list[str] = []
    pen = "M"
    for x, y in zip(line.x, line.y, strict=True):
        if not math.isfinite(y):
            pen = "M"
            continue
        pieces.append(f"{pen}{place.x(x):.1f} {place.y(y):.1f}")
        pen = "L"
    dashed = " dashed" if line.is_dashed else ""
    return f'<path class="line c{colour}{dashed}" d="{"".join(pieces)}"/>'


def _legend(lines: Sequence[Line]) -> str:
    """Return what each colour means; dashed lines have that of the line before."""
    return "".join(
        f'<span class="key"><svg class="swatch" viewBox="0 0 22 8" aria-hidden="true">'
        f'<path class="line c{colour}" d="M0 4L22 4"/></svg>'
        f"{html.escape(line.name)}</span>"
        for line, colour in zip(lines, _colours(lines), strict=True)
        if not line.is_dashed
    )
