"""Trainings one after another in a process of their own, each watched into its own folder.

`python -m gainstage.lab.trainings FOLDER BUDGET` reads commands from standard input, as JSON, and
leaves the record of each in FOLDER/0, FOLDER/1 and so on. One process, for importing torch takes as
long as a small training.
"""

from __future__ import annotations

import gc
import json
import runpy
import sys
from pathlib import Path

import gainstage


def main() -> None:
    """Run the commands: a script, or `-m` and a module, with arguments."""
    folder, budget = Path(sys.argv[1]), float(sys.argv[2])
    commands: list[list[str]] = json.load(sys.stdin)
    for number, command in enumerate(commands):
        is_module = command[0] == "-m"
        sys.argv = command[1:] if is_module else command
        with gainstage.watch(out=folder / str(number), budget=budget):
            if is_module:
                runpy.run_module(sys.argv[0], run_name="__main__")
            else:
                runpy.run_path(sys.argv[0], run_name="__main__")
        gc.collect()  # an optimizer still alive would be taken for the next training's


if __name__ == "__main__":
    main()
