"""The pool of trials, with small processes that train nothing; here and on Ray."""

from __future__ import annotations

import math
import os
import select
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gainstage.facts.prescription import Trial
from gainstage.prescribe.candidate import Candidate, candidate
from gainstage.prescribe.executor import Executor, Job, LocalExecutor
from gainstage.prescribe.executor_ray import RayExecutor
from gainstage.prescribe.trials import Trials, TrialScript

CANDIDATES = [
    candidate("clip-global-norm", why=""),
    candidate("lower-lr", why=""),
    candidate("warm-up", "raise-eps", why=""),
]


def trials_of(
    code: str, folder: Path, executor: Executor, seen: list[Sequence[Trial]], **changes: float
) -> Trials:
    def job_of(run: Path, treat: Sequence[str], out: Path, err: Path) -> Job:
        command = (sys.executable, "-c", code, str(folder), run.name, *treat)
        return Job(command, str(folder), dict(os.environ), out, err)

    return Trials(
        script=TrialScript(folder=folder, job_of=job_of),
        executor=executor,
        at_once=int(changes.get("at_once", 2)),
        limit_s=changes.get("limit_s", 100.0),
        halving=None,
        on_change=seen.append,
    )


def run(trials: Trials, candidates: Sequence[Candidate] = CANDIDATES) -> dict[str, Trial]:
    trials.run(candidates, until=time.monotonic() + 100)
    return {each.treat[0]: each for each in trials.rows}


def test_every_trial_is_run_and_its_last_word_is_read(tmp_path: Path) -> None:
    seen: list[Sequence[Trial]] = []
    code = "import sys; print('x'); print(f'final_loss={len(sys.argv[2:])}.5')"
    rows = run(trials_of(code, tmp_path, LocalExecutor(), seen))
    assert [each.outcome for each in rows.values()] == ["finished"] * 3
    assert [each.final_loss for each in rows.values()] == [2.5, 2.5, 3.5]
    assert list(rows) == ["clip-global-norm", "lower-lr", "warm-up"]
    assert math.isnan(rows["lower-lr"].loss)
    together = max(sum(row.outcome == "running" for row in each) for each in seen)
    assert together == 2


def test_who_fails_beside_others_before_it_trains_is_run_again_alone(tmp_path: Path) -> None:
    # As with a port that two runs of the same script want.
    code = """
import os, sys
folder, name, treat = sys.argv[1:4]
if treat == "lower-lr" and "again" not in name:
    sys.exit("port in use")
"""
    rows = run(trials_of(code, tmp_path, LocalExecutor(), []))
    assert rows["lower-lr"].outcome == "finished"
    assert rows["lower-lr"].name == "02-lower-lr-again1"


def test_a_script_that_fails_by_itself_has_crashed_and_its_last_line_is_kept(
    tmp_path: Path,
) -> None:
    code = "import sys; sys.exit('no data here')"
    rows = run(trials_of(code, tmp_path, LocalExecutor(), []), CANDIDATES[:1])
    assert rows["clip-global-norm"].outcome == "crashed"
    assert rows["clip-global-norm"].note == "no data here"


def test_a_trial_over_its_time_is_ended_with_its_children(tmp_path: Path) -> None:
    code = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
open(sys.argv[1] + "/child", "w").write(str(child.pid))
time.sleep(1000)
"""
    # Long enough for two interpreters to start on a busy machine.
    rows = run(trials_of(code, tmp_path, LocalExecutor(), [], limit_s=5.0), CANDIDATES[:1])
    assert rows["clip-global-norm"].outcome == "timeout"
    assert _ends(int((tmp_path / "child").read_text()))


def _ends(pid: int) -> bool:
    """Wait for the end of a process that was killed: the kernel may take its time."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with open(watched, closefd=True) as file:
        return bool(select.select([file], [], [], 60.0)[0])


@pytest.fixture
def cluster() -> Iterator[RayExecutor]:
    executor = RayExecutor(workers=2)
    yield executor
    executor.close()


@pytest.mark.filterwarnings("ignore:.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*:ResourceWarning")
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
def test_ray_runs_the_same_trials_and_again_those_whose_worker_was_lost(
    tmp_path: Path, cluster: RayExecutor
) -> None:
    assert cluster.workers == 2
    seen: list[Sequence[Trial]] = []
    code = """
import os, signal, sys, time
folder, name, treat = sys.argv[1:4]
if treat == "lower-lr" and "again" not in name:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(1000)
print(f"final_loss={len(sys.argv)}.5 ".strip())
"""
    rows = run(trials_of(code, tmp_path, cluster, seen))
    assert {key: each.outcome for key, each in rows.items()} == {
        "clip-global-norm": "finished",
        "lower-lr": "finished",
        "warm-up": "finished",
    }
    assert rows["lower-lr"].name == "02-lower-lr-again1"
    assert [each.final_loss for each in rows.values()] == [4.5, 4.5, 5.5]

    endless = "import time; time.sleep(1000)"
    (stopped,) = run(
        trials_of(endless, tmp_path, cluster, seen, limit_s=1.0), CANDIDATES[:1]
    ).values()
    assert stopped.outcome == "timeout"
