"""Long healthy trainings, on which every alarm is false.

    python -m benchmarks.long_healthy [--steps 4000]

The healthy families of the generated corpus and the three examples, each for thousands of steps
under `gainstage`. Prints verdict and whatever is worse than a note.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.corpus import healthy
from benchmarks.corpus.case import Case
from benchmarks.corpus.families import HEALTHY
from benchmarks.corpus.play import play
from rich.console import Console
from rich.table import Table

import gainstage

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SEED = 2_000_000


def main() -> None:
    """Train, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.long_healthy", description=__doc__)
    parser.add_argument("--steps", type=int, default=4000)
    steps = parser.parse_args().steps
    table = Table("training", "steps", "verdict", "warnings", box=None)
    with tempfile.TemporaryDirectory(prefix="healthy-") as temporary:
        folder = Path(temporary)
        healthy.STEPS = steps
        for name in HEALTHY:
            case = Case(name, None, SEED)
            play(case, folder)
            table.add_row(*_row(name, folder / case.name))
        for example in ("char_rnn.py", "deep_mlp.py", "tiny_gpt.py"):
            out = folder / example.removesuffix(".py")
            command = [sys.executable, "-m", "gainstage", "run", "--out", str(out)]
            command += [str(EXAMPLES / example), "--steps", str(steps)]
            subprocess.run(command, check=True, capture_output=True)
            table.add_row(*_row(example, out))
    Console(width=110, file=sys.stdout).print(table)


def _row(name: str, folder: Path) -> list[str]:
    found = gainstage.load(folder).findings
    warnings = [f"{s.symptom} at {s.step}" for s in found.symptoms if s.severity != "info"]
    return [name, f"{found.steps:,}", found.verdict, ", ".join(warnings) or "none"]


if __name__ == "__main__":
    main()
