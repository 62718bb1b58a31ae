"""What `gainstage prescribe` shows: the trials while they run, and what came of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gainstage.facts.prescription import Prescription, Trial
from gainstage.show.terminal import safe

_STYLES = {"finished": "green", "running": "cyan", "dead": "red", "crashed": "red"}
_OVER = ("finished", "dead", "behind", "crashed", "timeout", "lost", "stopped")


class TrialBoard:
    """Shows the trials on a stream: a table kept up to date on a terminal, else a line for each."""

    def __init__(self, file: TextIO) -> None:
        """Show nothing yet.

        Args:
            file: Usually standard error.
        """
        self._console = Console(file=file, highlight=False, markup=False, emoji=False)
        self._live: Live | None = None
        self._said: set[str] = set()

    def __enter__(self) -> TrialBoard:
        """Begin to show."""
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def update(self, trials: Sequence[Trial]) -> None:
        """Show how the trials stand."""
        if self._live is not None:
            self._live.update(trials_table(trials))
            return
        for trial in trials:
            if trial.outcome in _OVER and trial.name not in self._said:
                self._said.add(trial.name)
                self._console.print(Text(f"gainstage: {_line(trial)}"), soft_wrap=True)


def trials_table(trials: Sequence[Trial]) -> Table:
    """Return the trials as a table, one a row, in their order."""
    table = Table(box=None, pad_edge=False)
    for name in ("trial", "outcome"):
        table.add_column(name, overflow="fold")
    for name in ("steps", "loss", "final_loss", "s"):
        table.add_column(name, justify="right", no_wrap=True)
    for trial in trials:
        outcome = Text(trial.outcome, style=_STYLES.get(trial.outcome, ""))
        if trial.note:
            outcome.append(f": {safe(trial.note)}", style="dim")
        table.add_row(
            Text(safe(_what(trial))),
            outcome,
            str(trial.steps),
            _number(trial.loss),
            "" if trial.final_loss is None else _number(trial.final_loss),
            f"{trial.seconds:.0f}",
        )
    return table


def print_prescription(prescription: Prescription, *, file: TextIO) -> None:
    """Print baseline, trials and the winner: the honest record, failures included."""
    console = Console(file=file, highlight=False, markup=False, emoji=False)
    if prescription.trials:
        console.print(trials_table([prescription.baseline, *prescription.trials]))
    for trial in prescription.trials:
        if len(trial.treat) == 1 and _short(trial.treat[0]) == _what(trial) != trial.treat[0]:
            console.print(Text(safe(f"{_what(trial)}: {trial.why}")), soft_wrap=True)
    untreated = prescription.baseline
    cause = f" ({safe(untreated.cause)})" if untreated.cause else ""
    console.print(Text(f"the run as it is: {untreated.verdict}{cause}"), soft_wrap=True)
    console.print(Text(safe(prescription.said)), soft_wrap=True)
    if prescription.diff_final_loss is not None:
        loss = _number(prescription.diff_final_loss)
        console.print(Text(f"the diff was run: it ends at {loss}"), soft_wrap=True)
    if prescription.instruction:
        console.print(Text(f"by hand: {safe(prescription.instruction)}"), soft_wrap=True)
    if prescription.code_change:
        console.print(Text(f"the cause: {safe(prescription.code_change)}"), soft_wrap=True)
    console.print(Text(f"records: {safe(prescription.folder)}"), soft_wrap=True)


def _line(trial: Trial) -> str:
    final = "" if trial.final_loss is None else f", final_loss {_number(trial.final_loss)}"
    note = f": {safe(trial.note)}" if trial.note else ""
    return (
        f"{safe(_what(trial))} {trial.outcome} after {trial.steps} steps, {trial.seconds:.0f} s: "
        f"loss {_number(trial.loss)}{final}{note}"
    )


def _what(trial: Trial) -> str:
    if not trial.treat:
        return trial.name
    is_repeat = trial.why.startswith(("the repeat", "the second seed", "the diff"))
    again = f" ({trial.why.split(' of ')[0]})" if is_repeat else ""
    return " + ".join(map(_short, trial.treat)) + again


def _short(treat: str) -> str:
    """Return a treatment, of a change of the code only the name of its file."""
    remedy, _, settings = treat.partition(":source=")
    return f"{remedy} ({Path(settings).name})" if settings else treat


def _number(value: float) -> str:
    return "nan" if math.isnan(value) else f"{value:.4g}"
