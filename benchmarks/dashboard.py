"""How long a long run takes to be seen: report, first heatmap and zoom of the dashboard.

    python benchmarks/dashboard.py [--tensors 1000] [--steps 100000] [--json FILE]

Writes a synthetic run through the store's own functions, then asks as a person would: `gainstage
report --html` in a process of its own, and tiles over HTTP from a `gainstage serve` just started.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.long_run import write_long_run

_ZOOMS = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tensors", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = write_long_run(Path(folder) / "runs" / "long", given.tensors, given.steps)
        rows = {**_served(run, given.steps), **_reported(run)}
    table = Table(title=f"{given.tensors:,} tensors, {given.steps:,} steps")
    table.add_column("what")
    table.add_column("measured", justify="right")
    for what, value in rows.items():
        table.add_row(what, f"{value:.3g}")
    Console().print(table)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2) + "\n")


def _served(run: Path, steps: int) -> dict[str, float]:
    command = [sys.executable, "-m", "gainstage", "serve", str(run.parent)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        found = re.search(r"http://\S+/", server.stdout.readline())
        assert found is not None
        tile = f"{found[0]}tile?run={run.name}&rank=0"
        first = _seconds(tile)
        zooms: list[float] = []
        for i in range(_ZOOMS):
            size = steps >> (1 + i % 7)
            start = (i * 7919 * 13) % max(1, steps - size)
            zooms.append(_seconds(f"{tile}&first={start}&last={start + size}"))
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(10)
    return {
        "first heatmap, s": first,
        "zoom, median of 15, s": statistics.median(zooms),
        "zoom, slowest of 15, s": max(zooms),
    }


def _reported(run: Path) -> dict[str, float]:
    page = run.parent / "report.html"
    began, cpu = time.perf_counter(), _cpu_of_children()
    command = [sys.executable, "-m", "gainstage", "report", str(run), "--html", str(page)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    return {
        "report --html, s": seconds,
        "report --html, s of CPU": _cpu_of_children() - cpu,
        "peak memory of report and server, GB": peak,
        "report, MB": page.stat().st_size / 1e6,
    }


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _seconds(address: str) -> float:
    began = time.perf_counter()
    with urllib.request.urlopen(address) as answer:
        answer.read()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
