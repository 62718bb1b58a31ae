"""Verbs that hand a run to other tools: `query`, `export` and `mcp`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gainstage.cli.options import RunFolder, load_run


def query(
    folder: RunFolder,
    sql: Annotated[
        str,
        typer.Argument(
            metavar="SQL",
            help="One SELECT over steps, gradients, weights, profiles, times, symptoms, tensors.",
        ),
    ],
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV: null is empty; nan, inf and -inf are words.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help='Print JSON: null, and "nan", "inf", "-inf" as strings.'),
    ] = False,
) -> None:
    """Query a run's files with SQL, through DuckDB. It reads the run, and nothing else.

    Example: gainstage query RUN "select step, loss from steps where not isfinite(loss)"
    """
    from gainstage.show.query_result import print_csv, print_json, print_table
    from gainstage.store.query import query as run_query

    result = run_query(load_run(folder), sql)
    show = print_csv if as_csv else print_json if as_json else print_table
    show(result, file=sys.stdout)


def export(
    folder: RunFolder,
    to: Annotated[
        str,
        typer.Option(
            metavar="KIND", help="csv, parquet, tensorboard, wandb (offline), mlflow, openmetrics."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="The file or folder. [default: one within RUN]"),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all", help="Include all tensors, and weights. [default: the 12 most telling]"
        ),
    ] = False,
    rank: Annotated[int, typer.Option(help="The rank whose steps to write.")] = 0,
) -> None:
    """Write a run for another tool: losses, norms, and the tensors that tell most."""
    from gainstage.integrations.export import export as write

    run = load_run(folder)
    path = write(run, to, out, everything=everything, rank=rank)
    others = f"; the run has ranks {', '.join(map(str, run.ranks))}" if len(run.ranks) > 1 else ""
    typer.echo(f"gainstage: wrote {to} of {len(run.block(rank))} steps to {path}{others}", err=True)


def mcp(
    folder: Annotated[
        Path, typer.Argument(metavar="RUNS", help="The folder that holds runs.")
    ] = Path("gainstage-runs"),
) -> None:
    """Let an assistant read runs: a server of the Model Context Protocol on standard input."""
    from gainstage.integrations.mcp import serve

    serve(folder)
