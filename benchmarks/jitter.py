"""What watching does to the time of single steps: mean and 99th percentile, in turns.

    python benchmarks/jitter.py [--turns 5] [--steps 4000] [--threads 1]

Each turn runs an MLP bare, watched and bare again, each in a process of its own. Ratios are to the
mean of the two bare runs around it, without the first 300 steps; printed are medians of all turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SCRIPT = """
import json, sys, time, torch
from torch import nn
from torch.nn import functional as F
steps, threads, file = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.manual_seed(0)
torch.set_num_threads(threads)
widths = [64, 256, 256, 256, 10]
layers = [nn.Linear(a, b) for a, b in zip(widths, widths[1:])]
model = nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1])
x, y = torch.randn(64, 64), torch.randint(0, 10, (64,))
optimizer = torch.optim.Adam(model.parameters())
times = []
for _ in range(steps):
    began = time.perf_counter()
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    times.append(time.perf_counter() - began)
times = sorted(times[300:])
json.dump({"mean": sum(times) / len(times), "p99": times[int(0.99 * len(times))]}, open(file, "w"))
"""


def run(folder: Path, prefix: list[str], steps: int, threads: int) -> dict[str, float]:
    """Return mean and 99th percentile of a step, in seconds."""
    (folder / "mlp.py").write_text(SCRIPT)
    command = [sys.executable, *prefix, "mlp.py", str(steps), str(threads), "times.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads((folder / "times.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    ways = {"process": ["-m", "gainstage", "run"]}
    ways["thread"] = [*ways["process"], "--observer", "thread"]
    ratios: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    bare_ms = []
    for _ in range(options.turns):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            before = run(folder, [], options.steps, options.threads)
            for way, prefix in ways.items():
                seen = run(folder, prefix, options.steps, options.threads)
                after = run(folder, [], options.steps, options.threads)
                bare = {key: (before[key] + after[key]) / 2 for key in after}
                ratios[way].append({key: seen[key] / bare[key] for key in seen})
                bare_ms.append(bare["mean"] * 1e3)
                before = after
    print(f"bare step: {statistics.median(bare_ms):.3f} ms, {options.threads} thread(s)")
    print(f"{'observer':<10}{'mean':>8}{'p99':>8}   of each turn (mean, p99)")
    for way, turns in ratios.items():
        mean, p99 = (statistics.median(turn[key] for turn in turns) for key in ("mean", "p99"))
        each = "  ".join(f"{turn['mean']:.3f} {turn['p99']:.2f}" for turn in turns)
        print(f"{way:<10}{mean:>8.3f}{p99:>8.2f}   {each}")


if __name__ == "__main__":
    main()
