"""Arguments and options that several verbs share, and opening the run that they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gainstage.store.reader import StoredRun

ScriptArguments = Annotated[
    list[str] | None, typer.Argument(metavar="[ARGS]...", help="The script's own arguments.")
]
IsModule = Annotated[bool, typer.Option("-m", help="Run a module, as `python -m` does.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.")]
FindingsAsJson = Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")]
BlackBoxRank = Annotated[
    int | None, typer.Option(help="The rank whose black box to use. [default: the first found]")
]


def load_run(folder: Path) -> StoredRun:
    """Return the run in a folder; what is damaged in it is reported on standard error.

    What a process left in its channel, which was killed together with its observer, is written
    first.
    """
    from gainstage.observe.recover import recover
    from gainstage.store.reader import load

    recover(folder)
    run = load(folder)
    for damage in run.damage:
        typer.echo(f"gainstage: {damage}", err=True)
    return run
