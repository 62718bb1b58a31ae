"""What a notebook shows of a run."""

from __future__ import annotations

from pathlib import Path

import gainstage
from gainstage.store.folder import update_run_info
from recorded import large_run


def test_a_run_shows_itself_and_nothing_that_it_says_is_markup(tmp_path: Path) -> None:
    folder = large_run(tmp_path / "run", 2, 40, 4)
    hostile = "<img src=x onerror=alert(1)>\x1b[31m.py"
    update_run_info(folder, script=hostile, exit={"exception": "</table><script>"})
    run = gainstage.load(folder)
    shown = run._repr_html_()
    assert "<strong>HEALTHY</strong>" in shown
    assert "&lt;img src=x" in shown
    assert "40 steps" in shown
    assert "<img" not in shown
    assert "<script" not in shown
    assert "\x1b" not in shown
    text = repr(run)
    assert text.startswith(f"Run({str(folder)!r})\n gainstage")
    assert "HEALTHY" in text
    assert "\x1b" not in text


def test_what_load_returns_is_the_public_run(tmp_path: Path) -> None:
    run = gainstage.load(large_run(tmp_path / "run", 2, 40, 4))
    assert type(run) is gainstage.Run
    assert run.steps.num_rows == 40
