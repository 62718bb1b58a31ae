"""Which share of broken trainings `gainstage prescribe` repairs, and whether its diffs hold.

python -m benchmarks.repair                            generated cases of the test split, 4 a family

A case is repaired if the prescribed treatment, confirmed or not, ends within 10% of the same
training without the fault: of its last loss, or of the way from its first loss to its last. A diff
is proven if the patched script, run by plain Python, prints the loss that the trial printed, within
2%, or ends within the 10% as well, where weights are drawn anew. Unbounded objectives are left out:
the lowest loss is the most broken one, and the control trains another objective.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

from benchmarks.corpus.case import Case
from benchmarks.corpus.families import FAULTY, cases
from benchmarks.corpus.score import wilson
from benchmarks.corpus.script import script_of
from rich.console import Console
from rich.table import Table

NEAR = 0.1
_JUDGED = [family for family in FAULTY if family != "unbounded-objective"]
_OTHER_UNITS = ("loss-reduction", "grad-accumulation")
"""Where the fault is in the loss's units: the same network's first losses tell their ratio."""
SAME = 0.02
_PRINTED = re.compile(r"^(first|final)_loss=(\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Repair:
    """What came of one case."""

    name: str
    family: str
    cause: str | None
    """The one diagnosed."""
    harmed: bool
    """Whether the fault did harm: untreated, the end is not within the 10%."""
    treat: tuple[str, ...]
    untreated: float
    """Last loss of the script as it is."""
    treated: float
    control: float
    """Last loss without the fault, in the units of the script's."""
    repaired: bool
    patch: str
    """`proven`, `differs`, `instruction` or `none`."""
    said: str
    trials: int


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.repair", description=__doc__)
    parser.add_argument("--split", choices=["dev", "test"], default="test")
    parser.add_argument("--each", type=int, default=4, help="seeds a family")
    parser.add_argument("--only", choices=_JUDGED, help="one family")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="append each case as a line to this file")
    given = parser.parse_args()
    kinds = _JUDGED if given.only is None else [given.only]
    chosen = [
        case
        for case in cases(given.split, given.each)
        if case.cause and not case.control and case.family in kinds
    ]
    with ThreadPool(given.jobs) as pool:
        repairs: list[Repair] = []
        for repair in pool.imap_unordered(_repair, chosen):
            repairs.append(repair)
            print(_line(repair), file=sys.stderr)
            if given.json:
                with given.json.open("a") as out:
                    out.write(json.dumps(asdict(repair)) + "\n")
    Console(width=100).print(_table(repairs))


def _line(repair: Repair) -> str:
    how = " and ".join(repair.treat) or repair.said
    losses = f"{repair.untreated:.3g} to {repair.treated:.3g}, control {repair.control:.3g}"
    word = "repaired" if repair.repaired else "not repaired" if repair.harmed else "no harm"
    return f"{repair.name}: {word}, {repair.cause}, {how}, {losses}, {repair.patch}"


def _repair(case: Case) -> Repair:
    """Prescribe for one case in a folder of its own, and run what its diff makes of the script."""
    with tempfile.TemporaryDirectory(prefix="repair-") as temporary:
        folder = Path(temporary)
        script = folder / "train.py"
        script.write_text(script_of(case))
        (folder / "control.py").write_text(
            script_of(Case(case.family, case.cause, case.seed, control=True))
        )
        start, end = _losses(folder / "control.py")
        first, untreated = _losses(script)
        if case.family in _OTHER_UNITS and start:
            start, end = first, end * first / start
        name, family = case.name, case.family
        if _is_near(untreated, start, end):
            numbers = (untreated, untreated, end)
            return Repair(name, family, None, False, (), *numbers, False, "none", "no harm", 0)
        found = _prescription(script)
        best = found["best"] or {"treat": (), "final_loss": None}
        treated = math.nan if best["final_loss"] is None else float(best["final_loss"])
        return Repair(
            name,
            family,
            found["baseline"].get("cause"),
            True,
            tuple(best["treat"]),
            untreated,
            treated,
            end,
            _is_near(treated, start, end),
            _patched(script, found, start, end) if found["best"] else "none",
            found["said"],
            len(found["trials"]),
        )


def _prescription(script: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "gainstage", "prescribe", "--json", script.name]
    done = subprocess.run(
        command, cwd=script.parent, capture_output=True, text=True, check=False, env=_one_thread()
    )
    if done.returncode not in (0, 3):
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def _patched(script: Path, found: dict[str, Any], start: float, end: float) -> str:
    if not found["diff"]:
        return "instruction" if found["instruction"] else "none"
    command = ["patch", "-p1"]
    applied = subprocess.run(
        command, cwd=script.parent, input=found["diff"], text=True, capture_output=True, check=False
    )
    if applied.returncode:
        return "differs"
    _, loss = _losses(script)
    said = found["best"]["final_loss"]
    same = abs(loss - said) <= SAME * max(abs(loss), abs(said))
    return "proven" if same or _is_near(loss, start, end) else "differs"


def _losses(script: Path) -> tuple[float, float]:
    """Return the first and the final loss that a script prints, NaN where it prints none."""
    done = subprocess.run(
        [sys.executable, script.name],
        cwd=script.parent,
        capture_output=True,
        text=True,
        check=False,
        env=_one_thread(),
    )
    printed = {name: float(value) for name, value in _PRINTED.findall(done.stdout)}
    return printed.get("first", math.nan), printed.get("final", math.nan)


def _one_thread() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def _is_near(loss: float, start: float, end: float) -> bool:
    """Tell whether a loss is as good as that of the control, which went from `start` to `end`."""
    return loss <= end + NEAR * max(abs(end), start - end)


def _table(repairs: Sequence[Repair]) -> Table:
    table = Table("fault", "cases", "harmed", "repaired", "95%", "diff", "proven")
    for family in _JUDGED:
        _add(table, family, [each for each in repairs if each.family == family])
    table.add_section()
    _add(table, "all", repairs)
    return table


def _add(table: Table, name: str, repairs: Sequence[Repair]) -> None:
    harmed = [each for each in repairs if each.harmed]
    done = [each for each in harmed if each.repaired]
    low, high = wilson(len(done), len(harmed))
    table.add_row(
        name,
        str(len(repairs)),
        str(len(harmed)),
        f"{len(done)}",
        f"{low:.0%} to {high:.0%}",
        str(sum(each.patch in ("proven", "differs") for each in done)),
        str(sum(each.patch == "proven" for each in done)),
    )


if __name__ == "__main__":
    main()
