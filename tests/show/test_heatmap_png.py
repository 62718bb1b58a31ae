"""The heatmap as a PNG, read back by a real reader of images."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest

from gainstage.facts.rows import Row
from gainstage.facts.tensor import TensorInfo
from gainstage.show.heatmap_png import MOST_ROWS, heatmap
from gainstage.store.blocks import to_block

PIL = pytest.importorskip("PIL.Image")
RED, ORANGE, BLACK = (204, 51, 17), (238, 119, 51), (0, 0, 0)
DARKEST, BRIGHTEST = (68, 1, 84), (253, 231, 37)


def drawn(norms: list[list[float]]) -> tuple[np.ndarray, dict[str, object]]:
    tensors = [TensorInfo(f"{i}.weight", str(i), (4,), "float32") for i in range(len(norms[0]))]
    rows: list[Row] = [
        (step, float(step), 1.0, 0.1, 1.0, None, None, 0, each) for step, each in enumerate(norms)
    ]
    png, legend = heatmap(tensors, to_block(rows, len(tensors)))
    with PIL.open(io.BytesIO(png)) as image:
        image.verify()
    with PIL.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB")), legend


def test_each_kind_of_value_has_its_colour_in_the_place_of_its_tensor_and_step() -> None:
    pixels, legend = drawn([[1.0, 0.0, math.nan], [256.0, math.inf, 4.0]])
    tall, wide = pixels.shape[0] // 3, pixels.shape[1] // 2
    colours = pixels[tall // 2 :: tall, wide // 2 :: wide].tolist()
    assert [list(map(tuple, row)) for row in colours][:2] == [
        [DARKEST, BRIGHTEST],
        [BLACK, ORANGE],
    ]
    assert tuple(colours[2][0]) == RED
    assert (legend["darkest_bits"], legend["brightest_bits"]) == (0.0, 8.0)
    assert (legend["first_step"], legend["last_step"], legend["columns"]) == (0, 1, 2)


def test_a_spike_of_one_step_of_many_is_seen_and_the_file_stays_small() -> None:
    norms = [[1.0] * (MOST_ROWS + 5) for _ in range(5000)]
    norms[3211][17] = 2.0**40
    pixels, legend = drawn(norms)
    bright = np.argwhere((pixels == BRIGHTEST).all(axis=-1))
    assert len(bright)
    rows = set((bright[:, 0] * MOST_ROWS // pixels.shape[0]).tolist())
    assert rows == {17}
    assert legend["left_out"] == 5
    assert pixels.shape[1] <= 960
