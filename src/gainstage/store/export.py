"""A run's series as CSV and Parquet."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# (PyArrow comes without types.)

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from gainstage.facts.symptom import Symptom
from gainstage.store.series import Series, SeriesBlock


class CsvFile:
    """A growing CSV file: `step`, `time` and a column a series; nothing where there is no value.

    NaN is `nan`, infinities are `inf` and `-inf`. Floats have as many digits as bring them back.
    """

    def __init__(self, path: Path) -> None:
        """Make the file; one that is there is replaced.

        Raises:
            OSError: If it cannot be written.
        """
        self._path = path
        self._series: list[Series] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._is_begun = False

    def write(self, block: SeriesBlock, symptoms: Iterable[Symptom] = ()) -> None:
        """Append a row a step. Symptoms have no place in a table of steps."""
        new = [each for each in block.series if each not in self._series]
        if new or not self._is_begun:
            self._widen(new)
        place = {series: number for number, series in enumerate(self._series)}
        for step, time, values in block.rows():
            cells: list[object] = [""] * len(place)
            for series, value in values.items():
                cells[place[series]] = int(value) if series.is_count else value
            self._writer.writerow([step, time, *cells])
        self._file.flush()

    def close(self) -> None:
        """Finish the file."""
        if not self._is_begun:
            self._widen([])
        self._file.close()

    def _widen(self, new: list[Series]) -> None:
        """Write the header; one with more columns means the file anew, empty in its old rows."""
        self._series += new
        header = ["step", "time", *(each.column for each in self._series)]
        if not self._is_begun:
            self._is_begun = True
            self._writer.writerow(header)
            return
        self._file.close()
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with (
            self._path.open(newline="", encoding="utf-8") as old,
            temporary.open("w", newline="", encoding="utf-8") as wider,
        ):
            writer = csv.writer(wider, lineterminator="\n")
            writer.writerow(header)
            rows = csv.reader(old)
            next(rows)
            writer.writerows([*row, *[""] * len(new)] for row in rows)
        os.replace(temporary, self._path)
        self._file = self._path.open("a", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file, lineterminator="\n")


def write_parquet(blocks: Iterable[SeriesBlock], path: Path) -> None:
    """Write blocks of the same series as one Parquet file; null is what was not there.

    Raises:
        OSError: If it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    writer: pq.ParquetWriter | None = None
    try:
        for block in blocks:
            batch = _batch(block)
            writer = writer or pq.ParquetWriter(temporary, batch.schema)
            writer.write_batch(batch)
        if writer is None:
            empty = pa.schema({"step": pa.int64(), "time": pa.float64()})
            writer = pq.ParquetWriter(temporary, empty)
        writer.close()
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _batch(block: SeriesBlock) -> pa.RecordBatch:
    columns = {"step": pa.array(block.step), "time": pa.array(block.time)}
    for number, series in enumerate(block.series):
        values, given = block.values[:, number], block.given[:, number]
        kind = pa.int64() if series.is_count else pa.float64()
        # Of a count only what is given is a whole number.
        whole = values.astype("int64") if series.is_count else values
        columns[series.column] = pa.array(whole, kind, mask=~given)
    return pa.RecordBatch.from_pydict(columns)
