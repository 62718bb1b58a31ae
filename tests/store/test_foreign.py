"""Logs of other tools: files that those tools wrote, the same findings as in a record of ours."""

from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.tensorboard import SummaryWriter

from conftest import finish
from gainstage.cli import main
from gainstage.errors import ConfigError
from gainstage.store.foreign.log import read_log
from gainstage.store.foreign.names import Names, found_names
from gainstage.store.foreign.wandb_log import read_wandb

OFFLINE = Path(__file__).parent / "data" / "offline.wandb"
"""Written by wandb 0.31.0, offline: 20 rows, from row 15 on the loss is NaN and the norm inf."""


def exploding(steps: int = 60, fails: int = 50) -> list[dict[str, float]]:
    return [
        {
            "step": step,
            "loss": 2.0 * 0.99**step if step < fails else math.nan,
            "grad_norm": 2.0 ** (step / 3),
            "lr": 0.1,
        }
        for step in range(steps)
    ]


def symptoms(path: Path) -> set[str]:
    return {each.symptom for each in read_log(path).findings.symptoms}


def test_every_format_gives_the_same_block_and_findings(tmp_path: Path) -> None:
    rows = exploding()
    with (tmp_path / "log.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    history = [
        {"epoch": 0.1, "loss": r["loss"], "grad_norm": r["grad_norm"], "learning_rate": r["lr"]}
        | {"step": r["step"]}
        for r in rows
    ]
    history.append({"epoch": 1.0, "eval_loss": 1.0, "step": 59})
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    with SummaryWriter(str(tmp_path / "board")) as board:
        for row in rows:
            step = int(row["step"])
            board.add_scalar("train/loss", row["loss"], step)
            board.add_scalar("train/grad_norm", row["grad_norm"], step)
            board.add_scalar("lr", row["lr"], step)
            board.add_text("note", "not a number", step)
    logs = [
        read_log(tmp_path / name)
        for name in ("log.csv", "log.jsonl", "trainer_state.json", "board")
    ]
    first = logs[0]
    found = {each.symptom for each in first.findings.symptoms}
    assert {"loss-nonfinite", "gradient-growth", "overflow-forecast"} <= found
    assert first.findings.verdict == "failed"
    for log in logs:
        block = log.record.block
        np.testing.assert_array_equal(block.step, np.arange(60))
        np.testing.assert_allclose(block.loss, [row["loss"] for row in rows], rtol=1e-6)
        np.testing.assert_allclose(block.grad_norm, [row["grad_norm"] for row in rows], rtol=1e-6)
        np.testing.assert_allclose(block.lr, 0.1, rtol=1e-6)
        assert {each.symptom for each in log.findings.symptoms} == found


finite = st.one_of(st.floats(width=64), st.just(math.nan), st.just(math.inf))


@settings(max_examples=40)
@given(rows=st.lists(st.tuples(st.one_of(st.none(), finite), finite), min_size=1, max_size=30))
def test_a_csv_file_comes_back_exactly(
    rows: list[tuple[float | None, float]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("csv") / "log.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["iteration", "Train Loss", "gnorm"])
        writer.writerows(
            (3 * i, "" if loss is None else repr(loss), repr(norm))
            for i, (loss, norm) in enumerate(rows)
        )
    block = read_log(path).record.block
    np.testing.assert_array_equal(block.step, 3 * np.arange(len(rows)))
    np.testing.assert_array_equal(block.has_loss, [loss is not None for loss, _ in rows])
    np.testing.assert_array_equal(block.loss, [math.nan if v is None else v for v, _ in rows])
    np.testing.assert_array_equal(block.grad_norm, [norm for _, norm in rows])


def test_an_offline_run_of_wandb_is_read_without_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it would raise
    log = read_log(OFFLINE)
    assert (log.names.loss, log.names.norm, log.names.lr) == ("train/loss", "train/grad_norm", "lr")
    block = log.record.block
    np.testing.assert_array_equal(block.step, np.arange(20))
    np.testing.assert_allclose(block.loss[:15], [2.0 * 0.99**i for i in range(15)])
    assert np.isnan(block.loss[15:]).all()
    assert np.isinf(block.grad_norm[15:]).all()
    assert symptoms(OFFLINE) >= {"loss-nonfinite", "gradient-nonfinite"}


@settings(max_examples=20)
@given(sizes=st.lists(st.integers(0, 70_000), min_size=1, max_size=4), cut=st.integers(0, 20))
def test_records_that_cross_blocks_come_back_and_a_torn_one_is_left_out(
    sizes: list[int], cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = bytearray(b":W&B\xe1\xbe\x00")
    for number, size in enumerate(sizes):
        step = b"\x0a" + _sized(b"\x0a\x04loss" + b"\x82\x01" + _sized(str(number).encode()))
        record = b"\x12" + _sized(step) + b"\x7a" + _sized(bytes(size))
        _frame(data, record)
    whole = bytes(data)
    path = tmp_path_factory.mktemp("wandb") / "run.wandb"
    path.write_bytes(whole)
    assert read_wandb(path) == [{"loss": float(number)} for number in range(len(sizes))]
    path.write_bytes(whole[: len(whole) - cut])
    assert len(read_wandb(path)) == len(sizes) - (cut > 0)


def _sized(part: bytes) -> bytes:
    length, head = len(part), bytearray()
    while length > 127:
        head.append(length & 127 | 128)
        length >>= 7
    return bytes([*head, length]) + part


def _frame(data: bytearray, record: bytes) -> None:
    """Append a record as LevelDB's log does: cut where a block of 32 KiB ends."""
    is_first = True
    while is_first or record:
        left = 32768 - len(data) % 32768
        if left < 7:
            data += bytes(left)
            continue
        part, record = record[: left - 7], record[left - 7 :]
        kind = {(True, True): 1, (True, False): 2, (False, False): 3, (False, True): 4}
        data += bytes(4) + len(part).to_bytes(2, "little") + bytes([kind[is_first, not record]])
        data += part
        is_first = False


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["train/loss", "eval/loss", "loss_scale"], Names(loss="train/loss")),
        (["val_loss", "train_loss_step", "train_loss_epoch"], Names(loss="train_loss_step")),
        (["total_loss", "loss"], Names(loss="loss")),
        (["Loss/train", "Loss/test", "Grad Norm"], Names(loss="Loss/train", norm="Grad Norm")),
        (
            ["loss", "lr-AdamW", "global_step"],
            Names(loss="loss", lr="lr-AdamW", step="global_step"),
        ),
        (["loss", "_step", "_timestamp"], Names(loss="loss", step="_step", time="_timestamp")),
        (
            ["grad_2.0_norm/fc.weight", "grad_2.0_norm_total"],
            Names(norm="grad_2.0_norm_total", tensors=("grad_2.0_norm/fc.weight",)),
        ),
    ],
)
def test_columns_are_found_by_their_usual_names(columns: list[str], expected: Names) -> None:
    assert found_names(columns, Names()) == expected


def test_given_columns_win_and_missing_ones_are_said() -> None:
    assert found_names(["a", "loss"], Names(loss="a")).loss == "a"
    with pytest.raises(ConfigError, match="no column 'b' for --loss; there are 'a', 'loss'"):
        found_names(["a", "loss"], Names(loss="b"))


def test_norms_of_tensors_make_up_the_total(tmp_path: Path) -> None:
    lines = [{"loss": 1.0, "grad_norm/a": 3.0, "grad_norm/b": 4.0} for _ in range(20)]
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    log = read_log(path)
    assert [each.name for each in log.record.tensors] == ["a", "b"]
    np.testing.assert_allclose(log.record.block.grad_norm, 5.0)


def test_steps_that_go_back_are_numbered_and_what_is_not_seen_is_said(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("step,loss\n" + "".join(f"{i % 5 * 10},{1 / (i + 1)}\n" for i in range(10)))
    log = read_log(path)
    np.testing.assert_array_equal(log.record.block.step, np.arange(10))
    said = " ".join(log.notes)
    assert "step goes back" in said
    assert "no gradient norm" in said
    assert "gradient-growth" in said.partition("not logged, so not checked:")[2]
    assert log.findings.verdict == "healthy"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("log.csv", b"", "is empty"),
        ("log.csv", b"\xff\xfe\x00", "is no CSV file"),
        ("log.csv", b"a,b\n1,2\n", "no column looks like a loss"),
        ("log.csv", b"step,loss\n", "holds no rows"),
        ("log.jsonl", b'{"loss": 1}\n[1]\n', "log.jsonl:2 is no JSON object"),
        ("log.jsonl", b'{"loss"\n{"loss": 1}\n', "log.jsonl:1 is no JSON"),
        ("trainer_state.json", b"{}", "has no list 'log_history'"),
        ("run.wandb", b"not one", "is no .wandb file"),
        ("run.wandb", b":W&B\xe1\xbe\x00" + b"\0\0\0\0\x01\0\x09x", "is damaged"),
        ("run.wandb", b":W&B\xe1\xbe\x00" + b"\0\0\0\0\x02\0\x01\x12\x09", "is damaged"),
        ("events.out.tfevents.1", b"garbage that is long enough", "TensorBoard|holds no rows"),
        ("log.xyz", b"", "is of no known format"),
        ("missing.csv", None, "no such log"),
    ],
)
def test_a_bad_file_is_one_line_and_exit_code_2(
    name: str,
    content: bytes | None,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        read_log(tmp_path / name)
    with pytest.raises(SystemExit) as exit_info:
        main(["diagnose", str(tmp_path / name)])
    assert exit_info.value.code == 2
    out, err = capsys.readouterr()
    assert (out, len(err.strip().splitlines())) == ("", 1)


def test_the_command_prints_summary_and_findings(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(map(json.dumps, exploding())))
    command = [sys.executable, "-m", "gainstage", "diagnose", "log.jsonl"]
    ran = finish(command, tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert "FAILED at step 50" in ran.out
    assert "not logged, so not checked:" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    ran = finish([*command, "--json", "--loss", "loss"], tmp_path)
    found = json.loads(ran.out)
    assert (found["schema"], found["verdict"]) == ("gainstage.findings/1", "failed")
    assert "found loss in 'loss'" in ran.err
