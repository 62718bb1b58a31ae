from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainstage.channel.row_reader import RowReader
from gainstage.channel.rows import ABSENT, ABSENT_BITS, RowWriter, slots_for
from gainstage.facts.rows import Row
from gainstage.facts.tensor import TensorInfo
from gainstage.observe.blocks import blocks_of
from gainstage.store.blocks import to_block, to_weight_block

NUMBERS = st.one_of(st.none(), st.floats(width=64))
ROWS = st.lists(
    st.tuples(
        st.integers(0, 2**40),
        st.floats(0, 1e10),
        NUMBERS,
        NUMBERS,
        NUMBERS,
        NUMBERS,
        NUMBERS,
        st.integers(-1, 1000),
        st.lists(NUMBERS, min_size=3, max_size=3),
    ),
    max_size=20,
)


def tensors(count: int) -> list[TensorInfo]:
    return [TensorInfo(f"layer.{i}.weight", f"layer.{i}", (2, 3), "float32") for i in range(count)]


def simple(step: int, norms: Sequence[float | None]) -> Row:
    return (step, 0.0, 1.0, 0.1, 1.0, None, None, 0, norms)


@given(rows=ROWS, takes=st.lists(st.integers(1, 5), max_size=8))
def test_rows_come_out_of_the_ring_as_they_went_in(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], takes: list[int]
) -> None:
    path = tmp_path_factory.mktemp("ring") / "rows.0"
    writer = RowWriter(path, tensors(3), slots=64)
    reader = RowReader(path)
    assert reader.tensors == tuple(tensors(3))
    parts, at = [], 0
    for count in [*takes, len(rows)]:
        for row in rows[at : at + count]:
            writer.append(row)
        at += count
        parts.append(blocks_of(reader.take())[0])
    expected = to_block(rows, 3)
    for name in ("step", "time", "loss", "has_loss", "lr", "grad_norm", "max_norm", "skipped"):
        got = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(got, getattr(expected, name), err_msg=name)
    got = np.concatenate([part.present for part in parts])
    np.testing.assert_array_equal(got, expected.present)
    got = np.concatenate([part.grad_norms for part in parts])
    np.testing.assert_array_equal(got[expected.present], expected.grad_norms[expected.present])
    assert reader.lost == 0


def test_samples_of_the_weights_go_the_same_way_and_are_told_apart(tmp_path: Path) -> None:
    writer = RowWriter(tmp_path / "rows.0", tensors(2))
    writer.append(simple(0, [1.0, 2.0]))
    writer.append_weights(1, [None, 5.0])
    writer.append(simple(1, [3.0, math.nan]))
    block, weights = blocks_of(RowReader(tmp_path / "rows.0").take())
    expected = to_weight_block([(1, [None, 5.0])], 2)
    assert block.step.tolist() == [0, 1]
    assert block.present.all()
    assert math.isnan(block.grad_norms[1, 1])
    np.testing.assert_array_equal(weights.weight_norms, expected.weight_norms)
    np.testing.assert_array_equal(weights.present, expected.present)


def test_what_the_writer_laps_is_counted_and_the_rest_is_whole(tmp_path: Path) -> None:
    writer = RowWriter(tmp_path / "rows.0", tensors(1), slots=64)
    reader = RowReader(tmp_path / "rows.0")
    for step in range(200):
        writer.append(simple(step, [float(step)]))
    block, _ = blocks_of(reader.take())
    # The slot that the writer would fill next may be half written already: it is not believed.
    assert block.step.tolist() == list(range(137, 200))
    assert block.grad_norms[:, 0].tolist() == [float(step) for step in range(137, 200)]
    assert reader.lost == 137
    writer.append(simple(200, [0.0]))
    assert blocks_of(reader.take())[0].step.tolist() == [200]


def test_a_row_that_is_shorter_than_the_ring_lacks_the_last_gradients(tmp_path: Path) -> None:
    writer = RowWriter(tmp_path / "rows.0", tensors(3))
    writer.append(simple(0, [1.0]))
    block, _ = blocks_of(RowReader(tmp_path / "rows.0").take())
    assert block.present.tolist() == [[True, False, False]]


def test_only_a_gradient_that_is_not_there_is_marked_so(tmp_path: Path) -> None:
    writer = RowWriter(tmp_path / "rows.0", tensors(2))
    writer.append(simple(0, [math.nan, -math.nan]))
    block, _ = blocks_of(RowReader(tmp_path / "rows.0").take())
    assert block.present.all()
    assert struct.pack("<d", ABSENT) == ABSENT_BITS.to_bytes(8, "little")


def test_a_rows_reading_stops_at_the_limit_it_is_given(tmp_path: Path) -> None:
    writer = RowWriter(tmp_path / "rows.0", tensors(1))
    for step in range(5):
        writer.append(simple(step, [1.0]))
    reader = RowReader(tmp_path / "rows.0")
    assert reader.take(3).step.tolist() == [0, 1, 2]
    assert reader.take().step.tolist() == [3, 4]


@pytest.mark.parametrize("columns", [0, 1, 8, 1000, 20_000])
def test_a_ring_holds_at_least_64_rows_and_about_16_megabytes(columns: int) -> None:
    slots = slots_for(columns)
    assert slots >= 64
    assert slots == 64 or slots * (72 + 8 * columns) <= 16 * 2**20


@pytest.mark.parametrize("cut", [0, 7, 100, 4096, 5000])
def test_a_file_that_is_no_ring_is_refused(tmp_path: Path, cut: int) -> None:
    RowWriter(tmp_path / "rows.0", tensors(4))
    whole = (tmp_path / "rows.0").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:cut])
    (tmp_path / "other").write_bytes(b"x" * max(cut, 200))
    for name in ("cut", "other"):
        with pytest.raises((OSError, ValueError)):
            RowReader(tmp_path / name)
