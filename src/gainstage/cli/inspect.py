"""Verbs that show a run or a log to a person: `report`, `diagnose`, `serve` and `watch`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gainstage.cli.options import FindingsAsJson, RunFolder, load_run

if TYPE_CHECKING:
    from gainstage.store.reader import StoredRun


def report(
    folder: RunFolder,
    as_json: FindingsAsJson = False,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the report with its figures to one HTML file."),
    ] = None,
    open_it: Annotated[
        bool,
        typer.Option(
            "--open",
            help="Open the report in the browser. [file: report.html in RUN, or --html]",
        ),
    ] = False,
) -> None:
    """Show what a run's record says, also while it runs or after it was killed."""
    from gainstage.facts.codec import to_json
    from gainstage.show.terminal import print_summary
    from gainstage.store.findings import findings_json

    run = load_run(folder)
    findings = run.findings
    if as_json:
        typer.echo(to_json(findings_json(findings), indent=2))
    elif html is None and not open_it:
        print_summary(run, findings, file=sys.stdout)
    if html is not None or open_it:
        _write_html(run, html or folder / "report.html", open_it=open_it)


def diagnose(
    log: Annotated[
        Path,
        typer.Argument(
            metavar="LOG",
            help="TensorBoard event file or folder, CSV, JSON lines, trainer_state.json, .wandb.",
        ),
    ],
    as_json: FindingsAsJson = False,
    loss: Annotated[str | None, typer.Option(metavar="NAME", help="Column of the loss.")] = None,
    norm: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of the gradient norm.")
    ] = None,
    lr: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of the learning rate.")
    ] = None,
    step: Annotated[str | None, typer.Option(metavar="NAME", help="Column of the step.")] = None,
) -> None:
    """Run the detectors on a log that another tool wrote, and say what it does not let them check.

    Columns that no option names are chosen by name.
    """
    from gainstage.facts.codec import to_json
    from gainstage.facts.run_info import RunInfo
    from gainstage.show.answers import Shown
    from gainstage.show.terminal import print_shown, safe
    from gainstage.store.findings import findings_json
    from gainstage.store.foreign.log import read_log
    from gainstage.store.foreign.names import Names

    read = read_log(log, Names(loss=loss, norm=norm, lr=lr, step=step))
    findings = read.findings
    if as_json:
        for note in read.notes:
            typer.echo(safe(f"gainstage: {note}"), err=True)
        typer.echo(to_json(findings_json(findings), indent=2))
        return
    shown = Shown(RunInfo(script=log.name), read.record.tensors, read.record.block, findings)
    print_shown(shown, (f"{read.format} log", *read.notes), file=sys.stdout)


def serve(
    runs: Annotated[
        Path, typer.Argument(metavar="[RUNS]", help="A folder of runs, or one run.")
    ] = Path("gainstage-runs"),
    port: Annotated[int, typer.Option(help="Port on this machine; 0 for a free one.")] = 0,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Show runs in the browser, while they run. Ctrl-C ends it; it only reads, never writes."""
    from gainstage.show.serve.server import serve as serve_runs

    def ready(address: str) -> None:
        typer.echo(f"gainstage: runs in {runs} at {address}   (Ctrl-C ends it)")
        if open_it and typer.launch(address) != 0:
            typer.echo("gainstage: no browser was found here; open that address in one", err=True)

    serve_runs(runs, port, ready)


def watch(
    folder: RunFolder,
    once: Annotated[bool, typer.Option("--once", help="Print one frame and exit.")] = False,
    every: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            metavar="SECONDS",
            help="Time between two updates. [default: 1; 10 for plain lines]",
        ),
    ] = None,
) -> None:
    """Follow a run from another terminal while it runs, until it ends or Ctrl-C."""
    from gainstage.show.watch import follow

    try:
        follow(folder, sys.stdout, once=once, every_s=every)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _write_html(run: StoredRun, path: Path, *, open_it: bool) -> None:
    from gainstage.show.html import write_report

    write_report(run, path)
    typer.echo(f"gainstage: wrote {path} ({path.stat().st_size / 1e6:.1f} MB)", err=True)
    if open_it and typer.launch(path.resolve().as_uri()) != 0:
        typer.echo("gainstage: no browser was found here; open that file in one", err=True)
