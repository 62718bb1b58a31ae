"""Sharded trainings on two processes: watched they end in the same bits, and the norms are true."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from launch_trainings import TRAININGS, launch
from small_nets import reference

import gainstage

KINDS = ("fsdp2-clip", "tp")
"""Every kind there is: `make distributed`."""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the bits that the trainings end with when nothing watches them."""
    folder = tmp_path_factory.mktemp("bare")
    launch(TRAININGS, ",".join(KINDS), str(folder / "bits"))
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_sharded_training_is_not_changed_and_its_norms_are_true(
    kind: str, bare: Path, tmp_path: Path
) -> None:
    launch(TRAININGS, kind, str(tmp_path / "bits"), record=tmp_path / "run")
    run = gainstage.load(tmp_path / "run")
    assert run.ranks == (0, 1)
    true = np.array(reference(kind, 2))
    for rank in run.ranks:
        name = f"bits-{kind}.{rank}.json"
        assert (bare / name).read_bytes() == (tmp_path / name).read_bytes()
        np.testing.assert_allclose(run.block(rank).grad_norm, true, rtol=1e-5)
        own = run.own_block(rank).grad_norm
        assert np.abs(own / true - 1).max() > 0.01
    assert run.findings.verdict == "healthy"
