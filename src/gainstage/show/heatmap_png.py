"""The heatmap of a run, tensors × steps in bits, as a PNG: for who cannot run the report's page."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gainstage.facts.blocks import StepBlock
from gainstage.facts.tensor import TensorInfo
from gainstage.show.figures import ABSENT, CENTIBITS, INF, NAN, ZERO, bin_starts, cells
from gainstage.store.window import largest_of

MOST_ROWS = 200
_MOST_BINS = 480
_WIDTH, _HEIGHT = 960, 640
_VIRIDIS = np.array(
    [(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], np.float64
)
_COLOURS = {NAN: (204, 51, 17), INF: (238, 119, 51), ZERO: (0, 0, 0), ABSENT: (236, 239, 243)}

Codes = NDArray[np.int16]


def heatmap(tensors: Sequence[TensorInfo], block: StepBlock) -> tuple[bytes, dict[str, Any]]:
    """Return a PNG of the gradient norms, and what its rows, columns and colours are.

    The same bins as in the report: each shows its largest value, so a spike of one step is seen.

    Args:
        tensors: Rows, at most 200 of them, in this order from the top.
        block: At least one step.

    Returns:
        The file's bytes; and names of the rows, first and last step, number of columns, bits of
        the darkest and of the brightest colour.
    """
    shown = min(len(tensors), MOST_ROWS)
    starts = bin_starts(block.step, _MOST_BINS)
    codes = cells(largest_of(block, starts))[:shown]
    levels = codes[(codes > ZERO) & (codes < NAN)]
    low, high = (int(levels.min()), int(levels.max())) if len(levels) else (0, 0)
    colours = _coloured(codes, low, high)
    tall, wide = max(1, _HEIGHT // max(1, shown)), max(1, _WIDTH // max(1, len(starts)))
    pixels = colours.repeat(min(tall, 24), axis=0).repeat(wide, axis=1)
    return _png(pixels), {
        "rows": [each.name for each in tensors[:shown]],
        "left_out": len(tensors) - shown,
        "first_step": int(block.step[0]),
        "last_step": int(block.step[-1]),
        "columns": len(starts),
        "darkest_bits": low / CENTIBITS,
        "brightest_bits": high / CENTIBITS,
        "colours": "viridis; red NaN, orange inf, black 0, grey no gradient",
    }


def _coloured(codes: Codes, low: int, high: int) -> NDArray[np.uint8]:
    place = np.clip((codes.astype(np.float64) - low) / max(1, high - low), 0.0, 1.0)
    stops = np.linspace(0.0, 1.0, len(_VIRIDIS))
    colours = np.stack([np.interp(place, stops, _VIRIDIS[:, each]) for each in range(3)], axis=-1)
    for code, colour in _COLOURS.items():
        colours[codes == code] = colour
    return colours.round().astype(np.uint8)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """Return red, green and blue, (height, width, 3), as a PNG file (ISO/IEC 15948)."""
    height, width, _ = pixels.shape
    lines = np.zeros((height, 1 + 3 * width), np.uint8)  # each begins with its filter: none
    lines[:, 1:] = pixels.reshape(height, -1)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines.tobytes(), 9)),
        (b"IEND", b""),
    )
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
