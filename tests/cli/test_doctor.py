from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from gainstage.attach import doctor
from gainstage.attach.doctor import INTERNALS, DoctorCheck, examine
from gainstage.cli import main


def test_the_doctor_says_what_a_report_needs_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(["doctor"])
    said = capsys.readouterr().out
    assert left.value.code == 0, said
    for word in ("gainstage", "Python", "torch", "threads", "processors", "pyarrow"):
        assert word in said
    assert f"torch has all {len(INTERNALS)} that gainstage uses" in said
    assert "record 5 of 5 steps" in said
    assert "gradients takes" in said
    assert str(tmp_path / "gainstage-runs") in said
    assert "tensorboard" in said
    assert "FAIL" not in said
    assert os.listdir(tmp_path) == []


def test_what_is_amiss_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gainstage-runs").write_text("a file")
    found = {each.name: each for each in examine(("torch:no_such_name", "no_such_module:x"))}
    assert "lacks torch:no_such_name, no_such_module:x" in found["internals"].said
    assert found["runs folder"].advice == "run elsewhere, or name a folder with --out DIR"

    def broken() -> list[DoctorCheck]:
        return [DoctorCheck("hooks", "torn \x1b[31m", "repair them")]

    monkeypatch.setattr(doctor, "examine", broken)
    with pytest.raises(SystemExit) as left:
        main(["doctor"])
    assert left.value.code == 1
    said = capsys.readouterr().out
    assert "FAIL  hooks" in said
    assert "repair them" in said
    assert "\x1b" not in said


def test_without_torch_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    *_, last = examine()
    assert last.name == "torch"
    assert "cannot be imported" in last.said
    assert not last.is_ok
