"""Which series of a run go to other tools: few, the telling ones, with the record's values."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exploding_record import FAILS, STEPS, exploding_run
from gainstage.facts.blocks import StepBlock
from gainstage.facts.tensor import TensorInfo
from gainstage.store.blocks import to_block
from gainstage.store.export import CsvFile, write_parquet
from gainstage.store.reader import StoredRun, load
from gainstage.store.series import (
    FIRST_TENSORS,
    MOST_TENSORS,
    Choice,
    Series,
    SeriesBlock,
    series_blocks,
)
from gainstage.store.series_line import block_line, parse_line


def infos(count: int) -> list[TensorInfo]:
    return [TensorInfo(f"t{index}", None, (), "float32") for index in range(count)]


def steps(*rows: list[float | None], start: int = 0) -> StepBlock:
    return to_block(
        [(start + i, float(i), 1.0, 0.1, 1.0, None, None, 0, row) for i, row in enumerate(rows)],
        len(rows[0]),
    )


def tensors_of(block: SeriesBlock) -> list[str]:
    return [each.tensor for each in block.series if each.tensor is not None]


def whole(run: StoredRun, *, everything: bool = False) -> SeriesBlock:
    (block,) = series_blocks(run.tensors(), run.block(), run.weight_block(), everything=everything)
    return block


def test_the_values_are_those_of_the_record(tmp_path: Path) -> None:
    run = load(exploding_run(tmp_path / "run"))
    block = whole(run)
    names = [each.column for each in block.series]
    assert names == [
        *("loss", "lr", "grad_norm", "clip_coefficient", "skipped"),
        *("grad_norm_max", "grad_norm_median", "nonfinite_tensors"),
        *(f"grad_norm/layers.{i}.weight" for i in range(3)),
    ]
    at = {name: block.values[:, index] for index, name in enumerate(names)}
    there = {name: block.given[:, index] for index, name in enumerate(names)}
    record = run.block()
    np.testing.assert_array_equal(at["loss"], record.loss)
    np.testing.assert_array_equal(at["grad_norm"], record.grad_norm)
    np.testing.assert_array_equal(there["clip_coefficient"], record.step >= 10)
    # Step 5 has two gradients, the smaller of which is the lower median; at 50 one is inf.
    assert at["grad_norm_median"][[4, 5, 50]].tolist() == [1.125, 1.125, 1.125]
    assert at["grad_norm_max"][[4, 50]].tolist() == [4.0, math.inf]
    assert math.isnan(at["grad_norm_max"][51])
    assert at["nonfinite_tensors"][[49, 50, 51]].tolist() == [0, 1, 3]
    assert not there["grad_norm/layers.0.weight"][5]
    assert Series("loss").chart == "gainstage/loss"
    assert Series("grad_norm", "fc.weight").chart == "grad_norm/fc.weight"


def test_a_large_model_has_twelve_tensors_and_everything_has_all(tmp_path: Path) -> None:
    run = load(exploding_run(tmp_path / "run", tensors=40))
    chosen = tensors_of(whole(run))
    assert len(chosen) == MOST_TENSORS
    # The last grows; those before it are the largest at first.
    assert {f"layers.{i}.weight" for i in (36, 37, 38, 39)} <= set(chosen)
    block = whole(run, everything=True)
    assert len(tensors_of(block)) == 80
    weights = [i for i, each in enumerate(block.series) if each.quantity == "weight_norm"]
    assert block.given[:, weights].sum() == 6 * 40


def test_live_a_tensor_is_taken_when_it_rises_and_stays() -> None:
    choice, tensors = Choice(), infos(20)
    first = steps([float(20 - i) for i in range(20)])
    choice.see(tensors, first)
    choice.admit()
    assert tensors_of(choice.block(tensors, first)) == [f"t{i}" for i in range(FIRST_TENSORS)]
    calm = steps([float(20 - i) for i in range(20)], start=1)
    choice.see(tensors, calm)
    choice.admit()
    assert len(tensors_of(choice.block(tensors, calm))) == FIRST_TENSORS
    row: list[float | None] = [float(20 - i) for i in range(20)]
    row[15], row[17] = 5.0 * 2**3, math.nan
    risen = steps(row, start=2)
    choice.see(tensors, risen)
    choice.admit()
    found = choice.block(tensors, risen)
    assert tensors_of(found) == ["t0", "t1", "t2", "t3", "t15", "t17"]
    assert math.isnan(found.values[0, -1])
    assert found.given[0, -1]
    everything_dies = steps([math.nan] * 20, start=3)
    choice.see(tensors, everything_dies)
    choice.admit()
    assert len(tensors_of(choice.block(tensors, everything_dies))) == 6


NUMBERS = st.one_of(
    st.none(), st.floats(width=32, allow_nan=True, allow_infinity=True), st.just(0.0)
)


@settings(max_examples=40)
@given(
    st.integers(1, 30).flatmap(
        lambda width: st.lists(
            st.lists(NUMBERS, min_size=width, max_size=width), min_size=1, max_size=8
        )
    )
)
def test_any_record_gives_few_series_and_a_line_brings_them_back(
    rows: list[list[float | None]],
) -> None:
    rows = [[None if each is None else abs(each) for each in row] for row in rows]
    block, tensors = steps(*rows), infos(len(rows[0]))
    (found,) = series_blocks(tensors, block)
    assert len(tensors_of(found)) <= MOST_TENSORS
    assert len(tensors_of(found)) == len(tensors) or len(tensors) > MOST_TENSORS
    for index, each in enumerate(found.series):
        if each.tensor is not None:
            place = int(each.tensor[1:])
            np.testing.assert_array_equal(found.values[:, index], block.grad_norms[:, place])
            np.testing.assert_array_equal(found.given[:, index], block.present[:, place])
    back, symptoms = parse_line(block_line(found, []))
    assert symptoms == []
    assert back.series == found.series
    np.testing.assert_array_equal(back.given, found.given)
    np.testing.assert_array_equal(
        np.where(back.given, back.values, 0.0), np.where(found.given, found.values, 0.0)
    )


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_and_parquet_bring_every_value_back(tmp_path: Path) -> None:
    run = load(exploding_run(tmp_path / "run"))
    block = whole(run)
    file = CsvFile(tmp_path / "a.csv")
    file.write(block)
    file.close()
    write_parquet([block], tmp_path / "a.parquet")
    rows = read_csv(tmp_path / "a.csv")
    table = pq.read_table(tmp_path / "a.parquet")
    assert len(rows) == table.num_rows == STEPS
    assert rows[FAILS]["grad_norm_max"] == "inf"
    assert rows[FAILS]["nonfinite_tensors"] == "1"
    assert rows[20]["skipped"] == "-1"
    for index, series in enumerate(block.series):
        column = table.column(series.column).to_pylist()
        for row, value, expected, there in zip(
            rows, column, block.values[:, index].tolist(), block.given[:, index], strict=True
        ):
            text = row[series.column]
            assert (text == "", value is None) == (not there, not there)
            if there:
                np.testing.assert_equal(float(text), expected)
                np.testing.assert_equal(value, expected)


def test_a_growing_csv_takes_new_columns_and_keeps_its_rows(tmp_path: Path) -> None:
    def block(step: int, *series: Series) -> SeriesBlock:
        values = np.full((1, len(series)), float(step))
        there = np.ones((1, len(series)), np.bool_)
        return SeriesBlock(np.array([step]), np.array([0.5]), series, values, there)

    a, b = Series("loss"), Series("grad_norm", 'odd, "name"')
    file = CsvFile(tmp_path / "new" / "a.csv")
    file.write(block(0, a))
    file.write(block(1, b, a))
    file.write(block(2, b))
    file.close()
    rows = read_csv(tmp_path / "new" / "a.csv")
    assert [row["loss"] for row in rows] == ["0.0", "1.0", ""]
    assert [row[b.column] for row in rows] == ["", "1.0", "2.0"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.csv"]


def test_a_parquet_file_that_fails_leaves_nothing_half_written(tmp_path: Path) -> None:
    def broken() -> list[SeriesBlock]:
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        write_parquet((block for _ in range(1) for block in broken()), tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []
