from __future__ import annotations

import io
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gainstage.detect import scan
from gainstage.detect.level.headroom_low import HeadroomLowEvidence
from gainstage.facts.blocks import StepBlock, WeightBlock
from gainstage.facts.diagnosis import CauseSite, Diagnosis, Evidence, Remedy
from gainstage.facts.fault import Site
from gainstage.facts.findings import Findings
from gainstage.facts.record import RankRecord
from gainstage.facts.rows import Row
from gainstage.facts.run_info import RunInfo
from gainstage.facts.symptom import Symptom
from gainstage.facts.tensor import TensorInfo
from gainstage.show.answers import Shown
from gainstage.show.sparkline import sparkline
from gainstage.show.terminal import summary
from gainstage.store.blocks import to_block, to_weight_block
from recorded import along_time, levels

TENSORS = [
    TensorInfo(f"encoder.layers.{i}.attention.weight", "m", (4,), "float32") for i in range(4)
]
NONE: WeightBlock = to_weight_block([], 4)


def block(norms: list[float]) -> StepBlock:
    rows: list[Row] = [
        (i, 100.0 + i, 1.0 + n if n == n else n, 0.1, n, None, None, 0, [n] * 4)
        for i, n in enumerate(norms)
    ]
    return to_block(rows, 4)


def shown(norms: list[float]) -> Shown:
    steps = block(norms)
    info = RunInfo(script="train.py", argv=("train.py", "--lr", "1"))
    sampled = (levels(0, [], [], []), along_time(0, [[]]))
    record = RankRecord(tuple(TENSORS), steps, NONE, *sampled, (), (), ())
    found = scan.find([record])
    return Shown(info, TENSORS, steps, found, folder="gainstage-runs/x")


def printed(what: Shown, width: int = 80) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=width, markup=False, highlight=False, soft_wrap=True)
    console.print(summary(what, width=width))
    return file.getvalue().splitlines()


EXPLODING = [2.0**i for i in range(0, 120, 4)] + [math.inf] + [math.nan] * 5


def test_a_symptom_of_an_operation_names_its_line() -> None:
    site = Site("exp", "attention", "forward", "train.py", 42)
    evidence = HeadroomLowEvidence(headroom_bits=2.0, dtype="float16", site=1, at_step=5)
    low = Symptom("headroom-low", "info", 5, evidence, last_step=5)
    what = replace(shown([1.0, 1.1, 0.9] * 20), sites=(site, site))
    what = replace(what, findings=Findings(60, "healthy", (low,)))
    lines = printed(what, width=160)
    assert any(line.endswith("overflows at step 5 [exp in attention, line 42]") for line in lines)


def test_a_healthy_run_gets_two_lines() -> None:
    lines = printed(shown([1.0, 1.1, 0.9] * 20))
    assert len(lines) == 2
    assert "60 steps" in lines[0]
    assert lines[0].endswith("HEALTHY")


def test_a_sick_run_says_what_when_and_what_to_type() -> None:
    text = "\n".join(printed(shown(EXPLODING)))
    assert "FAILED at step 30" in text
    for label in ("what", "when", "also", "‖g‖", "grows", "next"):
        assert f"\n {label}" in text
    assert "gainstage run --treat clip-global-norm:max_norm=1 train.py --lr 1" in text
    assert "… +116 bits" in text


def test_a_diagnosis_is_told_in_words_with_its_place_and_its_remedy() -> None:
    what = shown(EXPLODING)
    diagnosis = Diagnosis(
        cause="recurrent-gain",
        confidence=0.94,
        site=CauseSite(op="mm", module="rnn", file="/x/rnn.py", line=88),
        remedies=(Remedy("clip-global-norm", {"max_norm": 0.8}, "the 90th"),),
        evidence=(Evidence("time-grows-later", 6.0, "+0.45 bits a time step"),),
    )
    findings = replace(what.findings, diagnosis=diagnosis)
    lines = printed(replace(what, findings=findings, box_step=30))
    text = "\n".join(lines)
    assert " why     the recurrence multiplies at every time step (confidence 0.94)" in lines
    assert "         +0.45 bits a time step" in lines
    assert " where   /x/rnn.py:88" in lines
    assert "         operation mm, module rnn" in lines
    assert " fix     --treat clip-global-norm:max_norm=0.8   the 90th" in lines
    assert " next    gainstage prescribe train.py --lr 1" in lines
    for verb in ("report", "replay", "rescue"):
        assert f"gainstage {verb} gainstage-runs/x" in text
    assert max(len(line) for line in lines) <= 80


def test_clipping_is_not_advised_where_no_finite_gradient_grew() -> None:
    text = "\n".join(printed(shown([math.nan] * 5)))
    assert "FAILED at step 0" in text
    assert "--treat" not in text


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_line_is_wider_than_asked_for_but_commands(width: int) -> None:
    lines = printed(shown(EXPLODING), width)
    assert max(len(line) for line in lines if "gainstage r" not in line) <= width


def test_a_run_without_steps_says_so() -> None:
    assert "no optimizer step" in "\n".join(printed(shown([])))


def test_control_characters_of_a_run_are_shown_and_not_obeyed() -> None:
    tensors = [replace(TENSORS[0], name="\x1b[31mred[bold]"), *TENSORS[1:]]
    what = replace(shown(EXPLODING), tensors=tensors, info=RunInfo(script="\x1b]0;title\x07.py"))
    text = "\n".join(printed(what))
    assert "\x1b" not in text
    assert "\\x1b" in text


def test_a_spike_of_one_step_and_a_nan_stay_to_be_seen() -> None:
    values = [0.0] * 1000
    values[503] = 10.0
    assert sparkline(values, 40).count("█") == 1
    values[7] = math.nan
    values[999] = math.inf
    assert sparkline(values, 40)[0] == "×"
    assert sparkline(values, 40)[-1] == "∞"


@given(st.lists(st.floats(), max_size=200), st.integers(1, 80), st.booleans())
def test_a_sparkline_fits(values: list[float], width: int, ascii_only: bool) -> None:
    line = sparkline(values, width, ascii_only=ascii_only)
    assert len(line) == min(len(values), width)
    assert not ascii_only or line.isascii()


def test_the_summary_of_no_findings_needs_no_symptom() -> None:
    what = replace(shown([1.0] * 3), findings=Findings(3, "healthy", ()))
    assert len(printed(what)) == 2
    assert np.isfinite(what.block.loss).all()
