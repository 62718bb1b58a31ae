"""Every way torch.distributed trains, bare and watched: `make distributed`.

    python benchmarks/distributed.py [KIND...] [--world 2]

Prints whether both end in the same bits on every rank, how far the recorded norms are from those of
one process in float64 on the same data, and the verdict. Ends with 1 where a training was changed,
hung or failed, or a norm is off by more than 1e-5.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import gainstage

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "distributed"))
from launch_trainings import TRAININGS, launch
from small_nets import INEXACT, KINDS, reference

LARGEST_ERROR = 1e-5


def compare(kind: str, world: int, folder: Path) -> tuple[str, str, str, bool]:
    """Return the cells of a kind's row, and whether all is as it should be."""
    try:
        launch(TRAININGS, kind, str(folder / "bare"), world=world)
    except subprocess.SubprocessError as error:
        return f"bare fails: {type(error).__name__}", "", "", True
    try:
        launch(TRAININGS, kind, str(folder / "watched"), record=folder / "run", world=world)
    except subprocess.SubprocessError as error:
        return f"{type(error).__name__}", "", "", False
    same = all(
        (folder / f"bare-{kind}.{rank}.json").read_bytes()
        == (folder / f"watched-{kind}.{rank}.json").read_bytes()
        for rank in range(world)
    )
    run = gainstage.load(folder / "run")
    bits, verdict = "identical" if same else "DIFFERENT", run.findings.verdict
    if kind in INEXACT:
        return bits, "no reference", verdict, same
    true = np.array(reference(kind, world))
    norms = np.array([run.block(rank).grad_norm for rank in run.ranks])
    if np.isnan(norms).all():
        return bits, "not known: a gradient is a sum not yet made", verdict, same
    error = float(np.abs(norms / true - 1).max())
    return bits, f"{error:.1e}", verdict, same and error <= LARGEST_ERROR


def main() -> int:
    """Compare the kinds and print their table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--world", type=int, default=2)
    given = parser.parse_args()
    is_right = True
    print(f"{'training':16}{'bits':14}{'norm error':14}verdict")
    for kind in given.kinds:
        with tempfile.TemporaryDirectory() as folder:
            bits, error, verdict, is_good = compare(kind, given.world, Path(folder))
        is_right &= is_good
        print(f"{kind:16}{bits:14}{error:14}{verdict}", flush=True)
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
