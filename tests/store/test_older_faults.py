"""Folders of earlier versions: their faults are read with what is a field now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gainstage.facts.fault import Fault
from gainstage.store.sites import append_fault, read_faults


def line(op: str, message: str, **evidence: Any) -> dict[str, Any]:
    site = {"op": op, "module": "head", "function": "f", "file": "/x/t.py", "line": 3}
    rest = {"parameter": None, "time_step": None, "samples": [5], "chain": [site]}
    known = {"step": 4, "kind": "overflow", "phase": "forward", "site": site, "message": message}
    return {**known, **rest, "evidence": {"operands": {}, **evidence}}


def read(folder: Path, written: dict[str, Any]) -> Fault:
    (folder / "faults.jsonl").write_text(json.dumps(written) + "\n")
    (fault,), damage = read_faults(folder, 0)
    assert not damage
    return fault


@pytest.mark.parametrize(
    ("op", "message", "dtype"),
    [
        ("mul", "mul overflows float16 (at most 6.55e+04) in 1 of 4096 elements", "float16"),
        ("float16_safe", "float16_safe overflows float32; largest input magnitude 3", "float32"),
        ("log", "log of 0 in 1 of 256 elements", None),
    ],
)
def test_the_dtype_is_read_behind_the_name_of_the_operation(
    op: str, message: str, dtype: str | None, tmp_path: Path
) -> None:
    fault = read(tmp_path, line(op, message))
    assert (fault.evidence.dtype, fault.text) == (dtype, message)


def test_what_is_hidden_is_known_and_told_once(tmp_path: Path) -> None:
    end = "hidden from the loss by masked_fill, yet backward multiplies its 0 by the infinite"
    message = f"softmax of all -inf in 576 of 18432 elements; {end} derivative"
    fault = read(tmp_path, line("softmax", message))
    assert (fault.evidence.is_hidden, fault.evidence.hidden_by) == (True, "masked_fill")
    assert (fault.text, fault.evidence.hazard) == (message, "masked-row")


def test_divisors_and_second_moments_are_known(tmp_path: Path) -> None:
    by_norm = read(tmp_path, line("div", "0/0", by_spread=True, operands={"other": "norm"}))
    assert by_norm.evidence.divisor == "norm"
    by_spread = read(tmp_path, line("div", "0/0", by_spread=True, operands={"other": "add"}))
    assert by_spread.evidence.divisor == "deviation"
    update = "the update made elements of w NaN or inf: 0/0, for exp_avg_sq is 0 in 3 of them"
    assert read(tmp_path, line("addcdiv", update)).evidence.second_moment == "exp_avg_sq"


def test_a_line_of_now_is_left_alone(tmp_path: Path) -> None:
    fault = read(tmp_path, line("exp", "exp overflows float16"))
    (tmp_path / "faults.jsonl").unlink()
    append_fault(tmp_path, 0, fault)
    assert read_faults(tmp_path, 0) == ((fault,), ())
