"""What every reader of a foreign log returns, and what a cell of one means."""

from __future__ import annotations

from typing import Any, TypeAlias

Rows: TypeAlias = list[dict[str, float]]
"""One entry a logged row: numbers by the names that the log uses. What is no number is left out."""


def number(value: Any) -> float | None:
    """Return a cell as a number, NaN and infinities included; None where it is none.

    Example:
        >>> number("NaN"), number("1e-3"), number(""), number(True)
        (nan, 0.001, None, None)
    """
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def numbers(cells: dict[Any, Any]) -> dict[str, float]:
    """Return the cells that are numbers; those of nested objects by names such as `train/loss`."""
    parsed_cells: dict[str, float] = {}
    stack = [("", cells)]
    while stack:
        prefix, each = stack.pop()
        for name, value in each.items():
            if isinstance(value, dict):
                stack.append((f"{prefix}{name}/", value))
            elif (parsed := number(value)) is not None:
                parsed_cells[f"{prefix}{name}"] = parsed
    return parsed_cells
