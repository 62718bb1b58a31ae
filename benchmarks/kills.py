"""Kill a watched training at random points, in several ways, and count what its record lost.

    python benchmarks/kills.py [--kills 100]

Each training writes a byte into a file of its own after every step. A step is lost if it was
finished and is not in the record. The way of dying takes turns: SIGKILL, a segmentation fault, an
abort and, as the out-of-memory killer does it, SIGKILL from outside.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from gainstage.store.reader import load

SCRIPT = """
import ctypes, os, signal, sys, torch
from torch import nn
last, how = int(sys.argv[1]), sys.argv[2]
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters())
x = torch.randn(32, 16)
steps = os.open("steps", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for step in range(100_000):
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()
    os.write(steps, b".")
    if step == last and how == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    if step == last and how == "SIGSEGV":
        ctypes.string_at(0)
    if step == last and how == "SIGABRT":
        os.abort()
"""
WAYS = ("SIGKILL", "SIGSEGV", "SIGABRT", "from outside")


def kill(folder: Path, last: int, how: str) -> tuple[int, bool]:
    """Return how many finished steps the record lacks, and whether findings were written."""
    (folder / "train.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "gainstage", "run", "--out", "run", "train.py", str(last), how]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    if how == "from outside":
        while not (folder / "steps").exists() or (folder / "steps").stat().st_size <= last:
            if process.poll() is not None:
                raise RuntimeError(f"the training ended by itself, with code {process.returncode}")
        process.send_signal(signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    finished = (folder / "steps").stat().st_size
    recorded = set(load(folder / "run").block().step.tolist())
    findings = json.loads((folder / "run" / "findings.json").read_text())
    is_told = b"steps in" in said and findings["steps"] >= finished
    return len(set(range(finished)) - recorded), is_told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chosen = random.Random(options.seed)
    lost = {way: 0 for way in WAYS}
    untold = {way: 0 for way in WAYS}
    counts = {way: 0 for way in WAYS}
    for number in range(options.kills):
        way = WAYS[number % len(WAYS)]
        last = int(10 ** chosen.uniform(0, 3.5))
        with tempfile.TemporaryDirectory() as folder:
            missing, is_told = kill(Path(folder), last, way)
        lost[way] += missing
        untold[way] += not is_told
        counts[way] += 1
    print(f"{'killed by':<14}{'times':>6}{'steps lost':>12}{'no findings or summary':>24}")
    for way in WAYS:
        print(f"{way:<14}{counts[way]:>6}{lost[way]:>12}{untold[way]:>24}")
    sys.exit(bool(sum(lost.values()) + sum(untold.values())))


if __name__ == "__main__":
    main()
