"""The words for a diagnosis: why, where and what to do."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gainstage.facts.diagnosis import Alternative, CauseSite, Diagnosis, Evidence, Remedy
from gainstage.facts.observation import ClipPartial, Observation
from gainstage.facts.record import RankRecord
from gainstage.facts.run_info import RunInfo
from gainstage.show.audit import clip_audit
from gainstage.show.diagnosis import fix_lines, where_lines, why_lines
from gainstage.show.source import source_of
from gainstage.show.wording import near_path
from gainstage.store.blocks import to_block, to_weight_block
from recorded import along_time, levels

INFO = RunInfo(
    script="train.py", started="2020-01-01T00:00:00+00:00", cwd="/none", argv=("train.py",)
)


def record(steps: int = 0) -> RankRecord:
    rows = [(s, 0.0, 1.0, 0.1, 1.23456, None, None, 0, [1.0]) for s in range(steps)]
    none = (levels(0, [], [], []), along_time(0, [[]]))
    return RankRecord((), to_block(rows, 1), to_weight_block([], 1), *none, (), (), ())


SITE = CauseSite(op="log", module="head", samples=(3,), time_step=0)


def diagnosis(**changes: Any) -> Diagnosis:
    known = Diagnosis(
        cause="numeric-op",
        confidence=0.8,
        alternatives=(Alternative("bad-data", 0.1),),
        site=SITE,
        remedies=(
            Remedy("skip-nonfinite", why="leaves them"),
            Remedy("code-change", why="stay inside"),
        ),
        evidence=(
            Evidence("left-domain", 6.0, "log of 0"),
            Evidence("quiet-before", 1.0, "it was quiet"),
        ),
    )
    return replace(known, **changes)


def test_why_is_the_cause_and_its_strongest_evidence() -> None:
    assert why_lines(diagnosis()) == ["an operation left its domain (confidence 0.80)", "log of 0"]


def test_an_alternative_that_is_nearly_as_likely_is_told() -> None:
    close = (Alternative("bad-data", 0.6),)
    assert why_lines(diagnosis(alternatives=close))[0].endswith("or the data are wrong (0.60)")
    against = (Evidence("x", -1.0, "speaks against it"),)
    assert len(why_lines(diagnosis(evidence=against))) == 1


def test_a_change_of_the_code_stands_where_the_diagnosis_puts_it() -> None:
    skip, change = "--treat skip-nonfinite   leaves them", "in the code: stay inside"
    assert fix_lines(diagnosis()) == [skip, change]
    reverse = tuple(reversed(diagnosis().remedies))
    assert fix_lines(diagnosis(remedies=reverse)) == [change, skip]
    assert fix_lines(diagnosis(), tried=["skip-nonfinite"]) == [change]


def test_where_is_the_line_of_the_source_and_what_is_known_besides(tmp_path: Path) -> None:
    file = tmp_path / "train.py"
    file.write_text("\n" * 4 + "    loss = torch.log(rate)\n")
    os.utime(file, (0, 0))
    site = replace(SITE, file=str(file), line=5)
    info = replace(INFO, cwd=str(tmp_path))
    lines = where_lines(diagnosis(site=site), info)
    assert lines[0] == "train.py:5   loss = torch.log(rate)"
    assert lines[1] == "operation log, module head, time step 0, sample 3"
    os.utime(file, (4e9, 4e9))
    assert where_lines(diagnosis(site=site), info)[0] == "train.py:5"


@pytest.mark.parametrize("name", ["secret.txt", "missing.py", "folder.py"])
def test_only_python_files_that_are_there_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.txt").write_text("password\n")
    (tmp_path / "folder.py").mkdir()
    assert source_of(str(tmp_path / name), 1, INFO) is None


def test_a_line_that_the_file_does_not_have_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("one\ntwo\n")
    file = str(tmp_path / "train.py")
    assert source_of(file, 3, INFO) is None
    assert source_of(file, None, INFO) is None
    found = source_of(file, 2, INFO)
    assert found is not None
    assert (found.lines, found.text, found.is_newer) == (("one", "two"), "two", True)


def test_paths_are_told_from_where_one_stands(tmp_path: Path) -> None:
    script = tmp_path / "code" / "train.py"
    info = RunInfo(cwd=str(tmp_path / "elsewhere"), argv=(str(script), "--lr", "1"))
    assert near_path(str(script.parent / "model.py"), info) == "model.py"
    assert near_path(str(Path.cwd() / "a" / "b.py"), info) == os.path.join("a", "b.py")
    assert near_path("/other/b.py", info) == "/other/b.py"


def test_the_clip_audit_replays_limits_over_healthy_steps() -> None:
    norms = [float(n) for n in range(1, 101)] + [1e9]
    rows = [(i, 0.0, 1.0, 0.1, n, 50.0, min(1.0, 50 / n), 0, [n]) for i, n in enumerate(norms)]
    seen = Observation(ClipPartial(parameters=2, stepped=5), 0, "/x/train.py", 9)
    audit = clip_audit(to_block(rows, 1), [seen], 100, INFO)
    assert audit["said"][0] == "/x/train.py:9 clips only 2 of the 5 tensors stepped"
    assert audit["said"][1] == "clipping acted on 51 of the 101 steps it saw (50%)"
    assert [row[2] for row in audit["limits"]] == ["50%", "10%", "1%"]
    assert np.isclose(float(audit["limits"][1][0]), 90.1)


def test_no_clipping_is_said_and_few_steps_give_no_advice() -> None:
    audit = clip_audit(record(5).block, [], None, INFO)
    assert audit == {"said": ["nothing in this run clips gradients"], "limits": []}
