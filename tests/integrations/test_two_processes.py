"""Two processes of Ray Train and of Lightning, real ones: one run with two ranks, the same bits."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from conftest import finish
from gainstage import load

pytestmark = pytest.mark.usefixtures("process_observer")

STEPS = {"two_on_ray": 6, "two_with_lightning": 8}


@pytest.mark.parametrize("name", STEPS)
def test_both_processes_are_ranks_of_one_run_and_end_as_they_do_bare(
    name: str, tmp_path: Path
) -> None:
    pytest.importorskip({"two_on_ray": "ray.train.torch"}.get(name, "pytorch_lightning"))
    script = str(Path(__file__).with_name(f"{name}.py"))
    places = {how: tmp_path / how for how in ("bare", "watched")}
    for place in places.values():
        place.mkdir()
    with ThreadPoolExecutor(2) as pool:
        ends = list(
            pool.map(lambda how: finish([sys.executable, script, how], places[how]), places)
        )
    assert [each.code for each in ends] == [0, 0], ends[0].err + ends[1].err
    weights = [
        json.loads((place / f"weights.{rank}").read_text())
        for place in places.values()
        for rank in range(2)
    ]
    assert all(each == weights[0] for each in weights)
    assert not (places["bare"] / "run").exists()
    run = load(places["watched"] / "run")
    assert run.ranks == (0, 1)
    for rank in run.ranks:
        block = run.block(rank)
        assert block.step.tolist() == list(range(STEPS[name]))
        assert np.isfinite(block.grad_norm).all()
        assert (block.max_norm == 0.5).all()  # clipped once a step, and seen before the clip
    assert np.array_equal(run.block(0).grad_norm, run.block(1).grad_norm)
    assert (ends[1].out + ends[1].err).count("HEALTHY") == 1
