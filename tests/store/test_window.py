from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gainstage.facts.blocks import StepBlock
from gainstage.facts.tensor import TensorInfo
from gainstage.store.follow import Followed
from gainstage.store.reader import load
from gainstage.store.stream import read_table
from gainstage.store.window import RankSteps, bin_rows, largest_of
from row_recorder import RowRecorder

TENSORS = [TensorInfo(name, None, (2,), "float32") for name in "abc"]
STEPS = 9000


def rows() -> Iterator[tuple[int, list[float | None]]]:
    """Yield steps of three tensors: calm, with NaN, inf, zeros, and now and then absent."""
    random = np.random.default_rng(0)
    for step in range(STEPS):
        norms: list[float | None] = np.exp2(random.normal(0, 3, 3)).tolist()
        if step % 701 == 5:
            norms[1] = float("inf")
        if step % 1409 == 7 or 5000 <= step < 5300:
            norms[1] = float("nan")
        if 2000 <= step < 2200:
            norms[2] = None
        if 3000 <= step < 3200:
            norms[0] = 0.0
        yield step, norms


def write(folder: Path, writer: RowRecorder, step: int, norms: list[float | None]) -> None:
    writer.append((step, 1e9 + step, 1.0, 0.1, 2.0, None, None, 0, norms))
    if step % 97 == 0:
        writer.flush()


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of many segments, written to its end."""
    folder = tmp_path_factory.mktemp("window") / "run"
    (folder / "steps").mkdir(parents=True)
    writer = RowRecorder(folder, 0, TENSORS, warn=print, segment_bytes=50_000)
    for step, norms in rows():
        write(folder, writer, step, norms)
    writer.close()
    assert len(list((folder / "steps/rank=0").glob("seg-*"))) > 3
    return folder


@cache
def block_of(folder: Path) -> StepBlock:
    return load(folder).block()


def expected(folder: Path, rows: slice, width: int) -> np.ndarray:
    block = block_of(folder)
    part = type(block)(*[getattr(block, name)[rows] for name in type(block).__slots__])
    return largest_of(part, bin_rows(part.step, width))


@settings(max_examples=40)
@given(st.integers(0, STEPS - 1), st.integers(0, STEPS), st.sampled_from([1, 2, 64, 256, 4096]))
def test_the_levels_tell_what_the_steps_do(long: Path, first: int, size: int, width: int) -> None:
    steps = RankSteps(long, 0)
    assert steps.refresh()
    part = steps.rows(first, first + size)
    found = steps.largest(part, width)
    np.testing.assert_array_equal(found, expected(long, part, width))


def test_steps_that_no_level_covers_are_read_themselves(long: Path, tmp_path: Path) -> None:
    (tmp_path / "steps").symlink_to(long / "steps")
    steps = RankSteps(tmp_path, 0)
    steps.refresh()
    part = slice(100, 8000)
    np.testing.assert_array_equal(steps.largest(part, 4096), expected(long, part, 4096))


def test_a_run_is_followed_as_it_grows_through_every_seal(tmp_path: Path) -> None:
    (tmp_path / "steps").mkdir()
    writer = RowRecorder(tmp_path, 0, TENSORS, warn=print, segment_bytes=20_000)
    steps, table = RankSteps(tmp_path, 0), Followed(tmp_path / "steps/rank=0")
    assert not steps.refresh()
    for step, norms in rows():
        write(tmp_path, writer, step, norms)
        if step % 97 == 0 and step < 4000:
            assert table.refresh()
            assert steps.refresh()
            assert sum(batch.num_rows for batch in table.batches) == step + 1
            assert steps.lines.step.tolist() == list(range(step + 1))
        if step == 4000:
            break
    np.testing.assert_array_equal(
        steps.largest(slice(0, 3900), 64), expected(tmp_path, slice(0, 3900), 64)
    )
    writer.close()
    assert steps.refresh()
    assert len(steps.lines) == 4001
    assert not steps.refresh()


def test_half_a_message_waits_for_its_other_half(tmp_path: Path) -> None:
    (tmp_path / "steps").mkdir()
    writer = RowRecorder(tmp_path, 0, TENSORS, warn=print)
    write(tmp_path, writer, 0, [1.0, 1.0, 1.0])
    live = tmp_path / "steps/rank=0/live.arrows"
    one = live.read_bytes()
    write(tmp_path, writer, 97, [2.0, 2.0, 2.0])
    both = live.read_bytes()
    copy = tmp_path / "copy"
    copy.mkdir()
    table = Followed(copy)
    for size in (10, len(one) + 30, len(both)):
        (copy / "live.arrows").write_bytes(both[:size])
        table.refresh()
        assert len(table.batches) == len(read_table(copy)[0])
    assert [batch.num_rows for batch in table.batches] == [1, 1]
    writer.close()
