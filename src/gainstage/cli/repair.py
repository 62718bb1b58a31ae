"""Verbs that fix a script or a failed run: `prescribe`, `rescue` and `replay`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gainstage.cli.options import BlackBoxRank, IsModule, RunFolder, ScriptArguments
from gainstage.errors import ConfigError

if TYPE_CHECKING:
    from gainstage.facts.prescription import Prescription


def prescribe(
    target: Annotated[
        str, typer.Argument(metavar="SCRIPT", help="Script to repair; with -m, a module's name.")
    ],
    arguments: ScriptArguments = None,
    module: IsModule = False,
    trials: Annotated[int, typer.Option(help="Most treated runs to try.")] = 12,
    executor: Annotated[
        str, typer.Option(metavar="local|ray", help="Where the trials run.")
    ] = "local",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    diff: Annotated[
        bool,
        typer.Option("--diff", help="Print the repair as a diff on stdout, all else on stderr."),
    ] = False,
) -> None:
    """Find out by trials which treatment repairs a script, which stays unmodified.

    `--json` and `--diff` stand before SCRIPT or after it.
    """
    own, arguments = _own_options(arguments or [])
    as_json, diff = as_json or "--json" in own, diff or "--diff" in own
    if executor not in ("local", "ray"):
        raise ConfigError(f"--executor must be local or ray, got {executor!r}")
    prescription = _prescription(target, arguments, module, trials, executor)
    _print_prescription(prescription, as_json=as_json, diff=diff)
    if prescription.is_interrupted:
        raise typer.Exit(130)


def _prescription(
    target: str, arguments: list[str], is_module: bool, trials: int, executor: str
) -> Prescription:
    from gainstage.attach.startup.launch import check_script
    from gainstage.prescribe.prescribe import prescribe as try_treatments
    from gainstage.prescribe.request import PrescribeRequest
    from gainstage.show.prescription import TrialBoard

    path = check_script(target, is_module=is_module)
    runner = _executor(executor)
    with TrialBoard(sys.stderr) as board:
        return try_treatments(
            PrescribeRequest(
                target=target,
                path=path,
                arguments=tuple(arguments),
                is_module=is_module,
                trials=trials,
                executor=runner,
                workers=None if executor == "local" else runner.workers,
                on_change=board.update,
            )
        )


def _executor(name: str) -> Any:
    if name == "ray":
        from gainstage.prescribe.executor_ray import RayExecutor

        return RayExecutor()
    from gainstage.prescribe.executor import LocalExecutor

    return LocalExecutor()


def _print_prescription(prescription: Prescription, *, as_json: bool, diff: bool) -> None:
    from gainstage.facts.codec import to_json
    from gainstage.show.prescription import print_prescription

    print_prescription(prescription, file=sys.stderr if as_json or diff else sys.stdout)
    if as_json:
        typer.echo(to_json(prescription, indent=2))
    elif prescription.diff is not None:
        typer.echo(prescription.diff, nl=False)


def _own_options(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return our options at the end of the script's arguments, and the arguments before them."""
    own: list[str] = []
    while arguments and arguments[-1] in ("--json", "--diff"):
        *arguments, last = arguments
        own.append(last)
    return own, arguments


def rescue(
    folder: RunFolder,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The checkpoint. [default: rescue.pt in RUN]"),
    ] = None,
    rank: BlackBoxRank = None,
) -> None:
    """Make a checkpoint of the weights as they were before a run failed."""
    from gainstage.blackbox.rescue import rescue as write_checkpoint
    from gainstage.show.terminal import safe

    checkpoint = write_checkpoint(folder, out, rank)
    typer.echo(
        f"wrote {checkpoint.path}: the training before step {checkpoint.step}, all weights finite"
    )
    for note in checkpoint.notes:
        typer.echo(safe(f"note: {note}"))
    typer.echo("load it with")
    for line in checkpoint.lines:
        typer.echo(safe(f"    {line}"))


def replay(folder: RunFolder, rank: BlackBoxRank = None) -> None:
    """Compute the operation that failed again, from the inputs in the black box."""
    from gainstage.blackbox.replay import replay as compute
    from gainstage.show.terminal import safe

    replayed = compute(folder, rank)
    for line in replayed.lines:
        typer.echo(safe(line))
    if not replayed.is_reproduced:
        raise typer.Exit(1)
