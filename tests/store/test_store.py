from __future__ import annotations

import math
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainstage import RunFolderError, load
from gainstage.facts.rows import Row
from gainstage.facts.run_info import RunInfo
from gainstage.facts.tensor import TensorInfo
from gainstage.store.blocks import to_block
from gainstage.store.folder import claim_rank, create_run_folder
from gainstage.store.levels import BinCollector, bins_of_steps
from gainstage.store.schema import stack_padded, steps_batch, steps_block, steps_schema
from gainstage.store.stream import LIVE
from row_recorder import RowRecorder

TENSORS = [TensorInfo(f"layer.{i}", "layer", (2, 3), "float32") for i in range(3)]
numbers = st.one_of(
    st.none(), st.floats(width=32, min_value=0), st.sampled_from([math.nan, math.inf])
)


def row(step: int, norm: float | None = 2.0) -> Row:
    return (step, 1e9 + step, 1.0, 0.1, norm, None, None, 0, [norm, norm, norm])


def fresh(parent: Path, name: str = "run") -> Path:
    return create_run_folder(parent / name, RunInfo(script="train.py"))


def write(folder: Path, steps: int, **options: int) -> list[str]:
    warnings: list[str] = []
    rank = claim_rank(folder, None)
    writer = RowRecorder(folder, rank, TENSORS, warn=warnings.append, **options)
    for step in range(steps):
        writer.append(row(step))
        if step % 7 == 6:
            writer.flush()
    writer.close()
    return warnings


@given(st.lists(st.tuples(numbers, numbers, st.tuples(numbers, numbers, numbers)), max_size=20))
def test_rows_survive_the_way_to_arrow_and_back_exactly(
    values: list[tuple[float | None, float | None, tuple[float | None, ...]]],
) -> None:
    rows: list[Row] = [
        (i, float(i), loss, None, norm, None, None, 0, list(norms))
        for i, (loss, norm, norms) in enumerate(values)
    ]
    block = to_block(rows, 3)
    back = steps_block(steps_batch(block, steps_schema(TENSORS)))
    for name in ("step", "loss", "has_loss", "grad_norm", "grad_norms", "present", "lr"):
        np.testing.assert_array_equal(getattr(block, name), getattr(back, name))
    assert block.has_loss.tolist() == [loss is not None for loss, _, _ in values]
    assert block.present.tolist() == [[n is not None for n in norms] for _, _, norms in values]


@pytest.mark.parametrize("segment_bytes", [1, 20_000, 10**8])
def test_a_record_is_whole_however_it_is_cut_into_segments(
    tmp_path: Path, segment_bytes: int
) -> None:
    folder = fresh(tmp_path)
    assert write(folder, 100, segment_bytes=segment_bytes) == []
    run = load(folder)
    assert run.block().step.tolist() == list(range(100))
    assert run.tensors() == tuple(TENSORS)
    assert run.steps.num_rows == run.gradients.num_rows == 100
    assert run.damage == ()


def test_a_live_file_cut_at_any_byte_gives_what_is_before_the_cut(tmp_path: Path) -> None:
    folder = fresh(tmp_path)
    claim_rank(folder, 0)
    writer = RowRecorder(folder, 0, TENSORS, warn=pytest.fail)
    for step in range(3):
        writer.append(row(step))
        writer.flush()
    live = folder / "steps" / "rank=0" / LIVE
    whole = live.read_bytes()
    seen = set()
    for cut in range(len(whole) + 1):
        live.write_bytes(whole[:cut])
        seen.add(tuple(load(folder).block().step.tolist()))
    assert seen == {(), (0,), (0, 1), (0, 1, 2)}


def test_a_run_in_progress_can_be_read(tmp_path: Path) -> None:
    folder = fresh(tmp_path)
    claim_rank(folder, 0)
    writer = RowRecorder(folder, 0, TENSORS, warn=pytest.fail)
    for step in range(50):
        writer.append(row(step))
        writer.flush()
        assert len(load(folder).block()) == step + 1
    writer.close()


def test_tensors_may_be_added_on_the_way(tmp_path: Path) -> None:
    folder = fresh(tmp_path)
    claim_rank(folder, 0)
    writer = RowRecorder(folder, 0, TENSORS[:2], warn=pytest.fail)
    writer.append((0, 0.0, None, None, 1.0, None, None, 0, [1.0, 1.0]))
    writer.set_tensors(TENSORS)
    writer.append(row(1))
    writer.append_weights(1, [1.0, 2.0, None])
    writer.close()
    run = load(folder)
    assert run.block().present.tolist() == [[True, True, False], [True, True, True]]
    assert run.gradients.column("grad_norms").to_pylist() == [[1.0, 1.0, None], [2.0, 2.0, 2.0]]
    assert run.weight_block().present.tolist() == [[True, True, False]]


def test_a_damaged_segment_costs_only_itself(tmp_path: Path) -> None:
    folder = fresh(tmp_path)
    write(folder, 70, segment_bytes=1)
    segments = sorted((folder / "steps" / "rank=0").glob("seg-*.arrow"))
    segments[2].write_bytes(b"no arrow at all")
    run = load(folder)
    assert len(run.block()) == 63
    assert "seg-00002.arrow cannot be read and is left out" in run.damage[0]


def test_a_vanished_folder_is_one_warning_and_no_error(tmp_path: Path) -> None:
    folder = fresh(tmp_path)
    claim_rank(folder, 0)
    warnings: list[str] = []
    seen: list[int] = []
    writer = RowRecorder(
        folder,
        0,
        TENSORS,
        warn=warnings.append,
        listener=lambda block, _, __: seen.append(len(block)),
        retry_s=0,
    )
    writer.append(row(0))
    writer.flush()
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
    folder.write_text("a file where the folder was")
    for step in range(1, 5):
        writer.append(row(step))
        writer.flush()
    writer.close()
    assert seen == [1] * 5
    assert [line for line in warnings if "cannot write" in line] == warnings[:1]
    assert len(warnings) <= 2


def test_a_full_disk_leaves_a_record_that_reads(tmp_path: Path) -> None:
    folder = fresh(tmp_path)
    code = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
from pathlib import Path
print(len(test_store.write(Path({str(folder)!r}), 500)))
"""
    here = Path(__file__).parent
    paths = [str(here), str(here.parent), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 1
    steps = load(folder).block().step.tolist()
    assert 0 < len(steps) < 500
    assert steps == list(range(len(steps)))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_two_runs_never_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = {create_run_folder(None, RunInfo(script="my train.py")) for _ in range(5)}
    assert len(made) == 5
    assert all("my_train" in folder.name for folder in made)
    with pytest.raises(RunFolderError, match="needs a folder of its own"):
        create_run_folder(next(iter(made)), RunInfo(script="train.py"))
    assert [claim_rank(next(iter(made)), None) for _ in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("name", ["missing", "file", "foreign"])
def test_what_is_no_run_is_refused_in_words(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "foreign").mkdir()
    with pytest.raises(RunFolderError, match=name):
        load(tmp_path / name)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.integers(0, 2**32 - 1))
def test_levels_of_detail_do_not_depend_on_how_blocks_are_cut(cuts: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    total = sum(cuts)
    values = random.normal(size=total)
    values[random.random(total) < 0.1] = np.nan
    values[random.random(total) < 0.05] = np.inf
    rows: list[Row] = [
        (i, 0.0, float(v), None, 1.0, None, None, 0, [float(v)]) for i, v in enumerate(values)
    ]
    level = BinCollector(1)
    done, at = [], 0
    for cut in cuts:
        done.append(level.add(bins_of_steps(to_block(rows[at : at + cut], 1))))
        at += cut
    rest = level.rest()
    assert rest is not None
    maxima = np.concatenate([*(bins.maximum[:, 0] for bins in done), rest.maximum[:, 0]])
    bad = np.concatenate([*(bins.nonfinite[:, 2] for bins in done), rest.nonfinite[:, 2]])
    means = np.concatenate([*(bins.mean[:, 0] for bins in done), rest.mean[:, 0]])
    for index, start in enumerate(range(0, total, 64)):
        part = values[start : start + 64]
        finite = part[np.isfinite(part)]
        assert bad[index] == len(part) - len(finite)
        if len(finite):
            assert maxima[index] == finite.max()
            assert means[index] == pytest.approx(finite.mean())
        else:
            assert np.isnan(maxima[index])


def test_columns_that_a_later_read_has_more_of_are_left_out() -> None:
    weights = np.arange(10.0).reshape(5, 2)
    assert stack_padded([weights], 0, np.nan).shape == (5, 0)
    assert np.array_equal(stack_padded([weights], 1, np.nan), weights[:, :1])
    assert np.isnan(stack_padded([weights], 3, np.nan)[:, 2]).all()
