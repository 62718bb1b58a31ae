"""Write a generated case as a script of its own, which needs nothing of this project."""

from __future__ import annotations

import ast
import zlib
from pathlib import Path

from benchmarks.corpus import case as case_module
from benchmarks.corpus import nets
from benchmarks.corpus.case import Case
from benchmarks.corpus.families import family_of

_TAIL = """

if __name__ == "__main__":
    torch.set_num_threads(1)
    training = {family}(random.Random({seed}), {faulty})
    training.run()
    losses = training.run.losses
    # A tenth of the steps: the median of so many batches is the level of the loss.
    last = losses[-max(5, len(losses) // 10) :]
    known = sorted(filter(math.isfinite, last))
    is_lost = len(losses) < training.run.steps or 2 * len(known) < len(last)
    print(f"first_loss={{losses[0]}}")
    print(f"final_loss={{math.nan if is_lost else known[len(known) // 2]}}")
"""


def script_of(case: Case) -> str:
    """Return the source of a script that trains what `play` trains, and prints `final_loss=`.

    It is the modules of the corpus one after another, without the imports of one another.
    """
    family = family_of(case)
    files = [case_module.__file__, nets.__file__, family.__code__.co_filename]
    faulty = case.cause is not None and not case.control
    tail = _TAIL.format(family=family.__name__, seed=seed_of(case), faulty=faulty)
    parts = [_own(Path(file or "").read_text()) for file in files]
    return "from __future__ import annotations\n\nimport math\n" + "\n\n".join(parts) + tail


def seed_of(case: Case) -> int:
    """Return what a case's draws are seeded with; Python's own hash differs between processes."""
    return zlib.crc32(f"{case.family} {case.seed}".encode())


def _own(source: str) -> str:
    """Return a module's source without the imports of the corpus and of the future."""
    lines = source.splitlines()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if module == "__future__" or module.startswith("benchmarks"):
                lines[node.lineno - 1 : node.end_lineno] = [""] * (
                    (node.end_lineno or node.lineno) - node.lineno + 1
                )
    return "\n".join(lines)
