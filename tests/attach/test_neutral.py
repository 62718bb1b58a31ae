"""Watching changes nothing: output, bits, tracebacks and exit codes of many kinds of script."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Runner, finish
from gainstage import Run, load

pytestmark = pytest.mark.usefixtures("process_observer")

IDIOMS = Path(__file__).parent / "idioms"
STEPS = {
    "accumulation": 10,
    "autograd_grad": 20,
    "clip_by_name": 30,
    "clip_by_value": 20,
    "double_backward": 10,
    "functional": 20,
    "functional_transforms": 20,
    "gan": 30,
    "grads_for_an_optimizer": 20,
    "lbfgs": 10,
    "loader_workers": 8,
    "no_optimizer": 20,
    "plain_sgd": 30,
    "retain_graph": 10,
    "sparse": 20,
}
"""How many optimizer steps each idiom makes (backward calls where it has no optimizer, or
calls that return gradients)."""

GRAPHS = ["compiled", "graph_kinds"]
"""Idioms whose graphs are of many kinds, sampled on several steps; the second fails by NaN."""


def every_step_is_in_the_record(run: Run, idiom: str) -> None:
    assert run.block().step.tolist() == list(range(STEPS[idiom]))
    assert run.block().has_loss.all()
    assert run.findings.verdict == "healthy", run.findings
    assert run.ranks == (0,)  # a loader's worker is none


def the_graphs_were_sampled(run: Run, idiom: str) -> None:
    assert len(run.record().profiles)


def skipped_steps_are_counted_and_are_not_steps(run: Run, idiom: str) -> None:
    block = run.block()
    assert len(block) + block.skipped.sum() == 40
    assert block.skipped.sum() > 0
    # All unscaled: a gradient still scaled by 2^24 would stand out.
    assert (block.grad_norm < 100).all()
    assert (block.loss < 10).all()


def children_that_train_are_further_ranks(run: Run, idiom: str) -> None:
    steps = {"spawned": [12, 12], "forked": [8, 8, 8]}[idiom]
    assert [len(run.block(rank)) for rank in run.ranks] == steps


RECORD: dict[str, Callable[[Run, str], None]] = {
    **dict.fromkeys(STEPS, every_step_is_in_the_record),
    **dict.fromkeys(GRAPHS, the_graphs_were_sampled),
    "scaler": skipped_steps_are_counted_and_are_not_steps,
    "spawned": children_that_train_are_further_ranks,
    "forked": children_that_train_are_further_ranks,
}
"""What the record of each idiom must hold."""


@pytest.mark.parametrize("idiom", RECORD)
def test_a_watched_script_prints_and_ends_with_the_same_bits(
    idiom: str, bare: Runner, watched: Runner
) -> None:
    script = str(IDIOMS / f"{idiom}.py")
    plain, seen = bare(script), watched(script)
    assert "digest" in plain.out
    assert seen.out == plain.out
    assert (seen.code, plain.code) == (0, 0)
    assert _warnings(seen.err) == _warnings(plain.err)
    run = load(seen.folder)
    assert run.damage == ()
    RECORD[idiom](run, idiom)


def test_compiled_code_is_seen_from_inside_where_asked_and_compiled_no_more_often(
    bare: Runner, watched: Runner
) -> None:
    script = str(IDIOMS / "compiled.py")
    plain, seen = bare(script), watched(script, options=("--deep-compiled",))
    assert seen.out.splitlines()[-1] == plain.out.splitlines()[-1]
    sites = load(seen.folder).sites()
    assert {"compiled", "layer_norm", "tanh"} <= {site.op for site in sites}


def test_an_uncaught_error_keeps_its_own_clean_traceback(bare: Runner, watched: Runner) -> None:
    script = str(IDIOMS / "raises.py")
    plain, seen = bare(script), watched(script)
    assert (seen.code, plain.code) == (1, 1)
    assert "Trying to backward through the graph a second time" in plain.err
    assert plain.err.strip() in seen.err
    assert "gainstage" not in seen.err[: seen.err.index(plain.err.strip()) + len(plain.err)]
    assert "Trying to backward" in (load(seen.folder).info.exception or "")


def test_arguments_names_paths_stdin_and_exit_code_are_the_scripts_own(
    bare: Runner, watched: Runner
) -> None:
    script = [str(IDIOMS / "leaves_early.py"), "--lr", "3", "-m", "--out", "x"]
    plain, seen = bare(*script, stdin="typed"), watched(*script, stdin="typed")
    assert seen.out == plain.out
    assert "typed" in seen.out
    assert (seen.code, plain.code) == (7, 7)


def test_a_module_runs_as_python_dash_m_does(tmp_path: Path, bare: Runner, watched: Runner) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("print('package')\n")
    (package / "train.py").write_text(
        "import sys, torch\n"
        "print(__name__, __package__, __spec__.name, sys.argv[1:], sys.path[0])\n"
        "w = torch.ones(2, requires_grad=True)\nw.sum().backward()\n"
    )
    plain = bare("-m", "package.train", "--epochs", "3")
    seen = watched("package.train", "--epochs", "3", options=("-m",))
    assert seen.out == plain.out
    assert "package.train" in seen.out
    assert len(load(seen.folder).block()) == 1


def test_an_interrupt_ends_the_script_as_without_us(bare: Runner, watched: Runner) -> None:
    script = str(IDIOMS / "interrupted.py")
    plain, seen = bare(script), watched(script)
    assert seen.out == plain.out
    assert seen.code == plain.code
    assert "KeyboardInterrupt" in plain.err
    assert plain.err.strip().splitlines()[-1] in seen.err
    assert len(load(seen.folder).block()) == 5


def test_a_script_that_does_not_train_says_so(tmp_path: Path, watched: Runner) -> None:
    (tmp_path / "hello.py").write_text("print('hello')\n")
    seen = watched("hello.py")
    assert (seen.code, seen.out) == (0, "hello\n")
    assert "no optimizer step" in seen.err


def test_the_same_interpreter_options_reach_the_script(tmp_path: Path) -> None:
    (tmp_path / "flags.py").write_text(
        "import sys; print(sys.flags.optimize, sys.dont_write_bytecode)"
    )
    ran = finish(
        [sys.executable, "-O", "-B", "-m", "gainstage", "run", "--out", "run", "flags.py"], tmp_path
    )
    assert ran.out == "1 True\n"


def _warnings(text: str) -> list[str]:
    """Return the lines of warnings in what was written to standard error."""
    return re.findall(r"^.*Warning: .*$", text, flags=re.MULTILINE)
